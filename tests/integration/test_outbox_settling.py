"""How a row of the outbox is settled: by the writer's transaction, with a dead letter, or by the sweep."""

from __future__ import annotations

import numpy as np
import psycopg

from embedq_worker.engine.outbox.sweep import Sweep
from embedq_worker.engine.work import content_hash
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.dead_letters.burial import DeadLetter, bury
from embedq_worker.store.own_table.table import OwnNames, find_own_table
from embedq_worker.store.own_table.writer import OwnWriter
from embedq_worker.store.postgres.connections import connect
from embedq_worker.store.rows import Part, Row
from embedq_worker.store.writer import Writer
from tests.support.relayed import MODEL, outbox


def row(item_id: str, version: int, text: str | None = "a text", *, relayed: bool = True) -> Row:
    """A row of the collection's table as the writer takes it; without a text, a delete."""
    parts = () if text is None else (Part(text, np.ones(4, np.float32)),)
    return Row(item_id, version, content_hash(text), parts, is_from_outbox=relayed)


async def test_the_writer_settles_what_it_stores(database_url: str, broker_url: str) -> None:
    """Up to the version that it stores, deletes too; later versions, other ids and other collections stay."""
    async with outbox(database_url, broker_url) as box:
        for version in (1, 2, 3):
            box.put("1", version=version)
        box.put("2", None, 5)
        box.put("3")
        box.sql("INSERT INTO embedq.outbox (collection_id, id, version) VALUES (0, '1', 1)")
        await Writer(box.database, box.collection).write([row("1", 2), row("2", 5, None)])
        assert [(item_id, version) for item_id, version, _ in box.rows()] == [("1", 1), ("1", 3), ("3", 1)]


async def test_what_is_superseded_is_settled_too(database_url: str, broker_url: str) -> None:
    """The ledger has a newer one; and a text that is stored already moves its version only."""
    async with outbox(database_url, broker_url) as box:
        writer = Writer(box.database, box.collection)
        await writer.write([row("1", 9, relayed=False), row("2", 3, relayed=False)])
        for item_id, version in (("1", 4), ("2", 5), ("2", 6)):
            box.put(item_id, version=version)
        assert await writer.write([row("1", 4)]) == {"1"}
        assert await writer.touch([row("2", 5)]) == {"2"}
        assert [(item_id, version) for item_id, version, _ in box.rows()] == [("2", 6)]


async def test_another_text_of_the_same_version_stays(database_url: str, broker_url: str) -> None:
    """The higher hash wins, everywhere the same: also where it comes later, by the outbox."""
    async with outbox(database_url, broker_url) as box:
        low, high = sorted(("a", "b"), key=content_hash)
        box.put("1", low, 5)
        box.put("1", high, 5)
        await Writer(box.database, box.collection).write([row("1", 5, low)])
        assert [text for (text,) in box.sql("SELECT text FROM embedq.outbox")] == [high]
        await Writer(box.database, box.collection).write([row("1", 5, high)])
        assert box.rows() == []


async def test_a_row_that_a_relay_holds_is_not_waited_for(database_url: str, broker_url: str) -> None:
    """The write goes through, and the sweep removes the row later."""
    async with outbox(database_url, broker_url) as box:
        box.put("1")
        await box.relay.go_round()
        with psycopg.connect(database_url) as relay:
            relay.execute("SELECT FROM embedq.outbox FOR UPDATE")
            await Writer(box.database, box.collection).write([row("1", 1)])
            assert not await box.sweep.go_round()
            assert len(box.rows()) == 1
        await box.sweep.go_round()
        assert box.rows() == []


async def test_other_writes_never_ask_for_the_outbox(database_url: str, broker_url: str) -> None:
    """They go on where there is none."""
    async with outbox(database_url, broker_url) as box:
        box.sql("DROP TABLE embedq.outbox CASCADE")
        writer = Writer(box.database, box.collection)
        await writer.write([row("1", 1, relayed=False)])
        await writer.touch([row("1", 2, relayed=False)])
        await bury(
            box.database, [DeadLetter(collection="docs", lane="live", cause="row", code="x", payload="")]
        )


async def test_an_own_tables_writer_settles(database_url: str, broker_url: str) -> None:
    """Written, touched, deleted: as for a table that embedq made."""
    async with outbox(database_url, broker_url) as box:
        with connect(database_url) as connection:
            connection.execute("CREATE TABLE things (id text PRIMARY KEY, embedding vector(4))")
            connection.execute("INSERT INTO things VALUES ('1'), ('2'), ('3')")
            own = find_own_table(connection, OwnNames(table="things"))
            things = create_collection(connection, name="things", model=MODEL, dimensions=4, own=own)
        box.collection = things
        for item_id, version in (("1", 1), ("1", 2), ("3", 1)):
            box.put(item_id, version=version)
        box.put("2", None)
        writer = OwnWriter(box.database, things)
        await writer.write([row("1", 1), row("2", 1, None)])
        assert [(item_id, version) for item_id, version, _ in box.rows()] == [("1", 2), ("3", 1)]
        assert await writer.touch([row("1", 2), row("3", 1)]) == {"1"}
        assert [(item_id, version) for item_id, version, _ in box.rows()] == [("3", 1)]


async def test_a_dead_letter_settles_its_row(database_url: str, broker_url: str) -> None:
    """Exactly its version; also a letter of a whole message, whose items are all named."""
    async with outbox(database_url, broker_url) as box:
        for item_id, version in (("1", 1), ("1", 2), ("é", 1), ("3", 1)):
            box.put(item_id, version=version)
        letter = DeadLetter(
            collection="docs",
            lane="live",
            cause="killer",
            code="killed_its_worker",
            payload="",
            outbox=(("1", 2), ("é", 1), ("none", 1)),
        )
        await bury(box.database, [letter, letter])
        assert [(item_id, version) for item_id, version, _ in box.rows()] == [("1", 1), ("3", 1)]


async def test_the_sweep_leaves_what_is_not_stored(database_url: str, broker_url: str) -> None:
    """Newer ones, the same version with a higher hash, unsent ones; page by page, then from the start."""
    async with outbox(database_url, broker_url) as box:
        low, high = sorted(("a", "b"), key=content_hash)
        box.put_many(2_500)
        for text in (low, high):
            box.put("equal", text, 5)
        box.put("deleted", None, 3)
        while await box.relay.go_round():
            pass
        box.put("unsent", version=1)
        write_ledger(
            database_url, box.collection, [("equal", 5, low), ("deleted", 3, None), ("unsent", 1, "x")]
        )
        box.sql(
            "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks) "
            "SELECT collection_id, id, version + 1, '', 1 FROM embedq.outbox WHERE version = 1 AND epoch > 0 "
            "AND id::int %% 2 = 0"
        )
        rounds = 0
        while await box.sweep.go_round() or rounds < 4:
            rounds += 1
        left = {(item_id, version) for item_id, version, _ in box.rows()}
        odd = {(str(number), 1) for number in range(1, 2_501, 2)}
        assert left == {*odd, ("equal", 5), ("unsent", 1)}
        assert box.sql("SELECT text FROM embedq.outbox WHERE id = 'equal'") == [(high,)]


def write_ledger(database_url: str, collection: Collection, known: list[tuple[str, int, str | None]]) -> None:
    """What is stored of some ids."""
    insert = (
        "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks) "
        "VALUES (%s, %s, %s, %s, 1)"
    )
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        rows = [(collection.id, item_id, version, content_hash(text)) for item_id, version, text in known]
        cursor.executemany(insert, rows)


async def test_rows_of_a_dropped_collection_are_swept(database_url: str, broker_url: str) -> None:
    """Nobody can embed them; those of others stay."""
    async with outbox(database_url, broker_url) as box:
        box.put("1")
        box.sql("INSERT INTO embedq.outbox (collection_id, id, version) VALUES (99, 'lost', 1)")
        assert await box.relay.go_round() == 1
        await Sweep(box.database).go_round()
        assert [item_id for item_id, *_ in box.rows()] == ["1"]


async def test_the_sweep_waits_a_moment(database_url: str, broker_url: str) -> None:
    """What was just sent is usually under way."""
    async with outbox(database_url, broker_url) as box:
        box.put("1")
        await box.relay.go_round()
        write_ledger(database_url, box.collection, [("1", 2, "a text")])
        await Sweep(box.database).go_round()
        assert len(box.rows()) == 1
