"""Retention: old texts of dead letters and old tombstones are removed, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import psycopg
import pytest
import pytest_asyncio

from embedq_sql import statement
from embedq_worker.engine.housekeeping import Housekeeping
from embedq_worker.engine.work import content_hash
from embedq_worker.settings import Settings, WorkerSettings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.retention import BATCH, remove_texts, remove_tombstones
from embedq_worker.store.rows import Part, Row
from embedq_worker.store.writer import Writer
from tests.support.stack import Stack, wait_until

MODEL = Settings().catalogue.usable("text-embedding-3-small")
AGED_LETTERS = """
    WITH died AS (
        INSERT INTO embedq.dead_letter (collection, item_id, version, class, code, attempts, last_at)
        SELECT 'docs', i::text, i, 'text', 'too_long', 1, now() - make_interval(days => i)
        FROM generate_series(1, %(days)s) AS i
        RETURNING number
    )
    INSERT INTO embedq.dead_letter_text SELECT number, 'text' FROM died
"""
AGED_ITEMS = """
    INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks, deleted_at)
    SELECT 1, i::text, 1, '', 0, CASE WHEN i %% %(every)s = 0 THEN now() - make_interval(days => 40) END
    FROM generate_series(1, %(items)s) AS i
"""


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The engine's connections."""
    opened = Database(database_url, connections=2)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def connection(database_url: str) -> Connection:
    """A connection of the test's own, closed with its last use."""
    return connect(database_url)


def count(connection: Connection, what: str) -> int:
    """How many rows."""
    query = {
        "letters": "SELECT count(*) FROM embedq.dead_letter",
        "texts": "SELECT count(*) FROM embedq.dead_letter_text",
        "items": "SELECT count(*) FROM embedq.item",
        "tombstones": "SELECT count(*) FROM embedq.item WHERE deleted_at IS NOT NULL",
    }[what]
    (number,) = connection.execute(query.encode()).fetchone() or (0,)
    return int(number)


async def test_old_texts_go_and_letters_stay(database: Database, connection: Connection) -> None:
    """Counted from the last death."""
    connection.execute(AGED_LETTERS, {"days": 40})
    assert await remove_texts(database, 30.5) == 10
    assert (count(connection, "letters"), count(connection, "texts")) == (40, 30)
    assert await remove_texts(database, 30.5) == 0
    assert await remove_texts(database, 0.5) == 30
    connection.close()


async def test_old_tombstones_go_batch_after_batch(database: Database, connection: Connection) -> None:
    """Live items stay, however old; a round removes everything."""
    connection.execute(AGED_ITEMS, {"items": 3 * BATCH, "every": 2})
    assert await remove_tombstones(database, 41) == 0
    assert await remove_tombstones(database, 39) == BATCH
    await Housekeeping(database, WorkerSettings(tombstone_days=39)).go_round()
    assert (count(connection, "items"), count(connection, "tombstones")) == (1.5 * BATCH, 0)
    connection.close()


async def test_one_process_at_a_time(database: Database, connection: Connection) -> None:
    """While another is at it nothing is removed; what a writer holds is passed over."""
    connection.execute(AGED_ITEMS, {"items": 10, "every": 1})
    with connection.transaction():
        assert connection.execute(statement("try_retention")).fetchone() == (True,)
        assert await remove_tombstones(database, 30) == 0
    with connection.transaction():
        connection.execute("SELECT FROM embedq.item WHERE id = '3' FOR UPDATE")
        assert await remove_tombstones(database, 30) == 9
    assert await remove_tombstones(database, 30) == 1
    connection.close()


async def test_a_deleted_id_stays_deleted_while_its_tombstone_is_kept(
    database: Database, connection: Connection
) -> None:
    """An older text is superseded; once the tombstone is gone, it brings the id back."""
    collection: Collection = create_collection(connection, name="docs", model=MODEL, dimensions=4)
    writer = Writer(database, collection)
    text = Row("1", 1, content_hash("x"), (Part("x", np.ones(4, np.float32)),))
    assert await writer.write([Row("1", 2, b"")]) == set()
    assert await remove_tombstones(database, 1) == 0
    assert await writer.write([text]) == {"1"}
    connection.execute("UPDATE embedq.item SET deleted_at = now() - interval '2 days'")
    assert await remove_tombstones(database, 1) == 1
    assert await writer.write([text]) == set()
    connection.close()


def test_removing_reads_no_live_item(connection: Connection) -> None:
    """Tombstones are found by their index, and updates of live items stay in place all the same."""
    connection.execute(AGED_ITEMS, {"items": 50_000, "every": 1000})
    connection.execute("ANALYZE embedq.item")
    query = "EXPLAIN " + statement("remove_tombstones")
    plan = "\n".join(line for (line,) in connection.execute(query.encode(), {"days": 30.0, "limit": BATCH}))
    assert "item_deleted_at_idx" in plan
    assert "Seq Scan on item" not in plan
    hot = "SELECT pg_stat_get_xact_tuples_hot_updated('embedq.item'::regclass)"
    with connection.transaction():
        connection.execute("UPDATE embedq.item SET version = 2 WHERE id = '1'")
        assert connection.execute(hot).fetchone() == (1,)
    connection.close()


def test_a_worker_keeps_house(stack: Stack) -> None:
    """When it starts; it says how many were removed."""
    stack.create("docs")
    stack.configure("[worker]\ndead_letter_text_days = 10\ntombstone_days = 0.5\n")
    with psycopg.connect(stack.database_url) as opened:
        opened.execute(AGED_LETTERS, {"days": 40})
        opened.execute(AGED_ITEMS, {"items": 100, "every": 4})
    with stack.worker() as worker:
        wait_until(lambda: stack.sql("SELECT count(*) FROM embedq.item") == [(75,)], 20)
        wait_until(lambda: "25 ids deleted more than 0.5 days ago were forgotten" in worker.output, 5)
    # The letter that died ten days ago is as old to the second.
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter_text") in ([(9,)], [(10,)])
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter") == [(40,)]
    assert "the texts of 3" in worker.output
