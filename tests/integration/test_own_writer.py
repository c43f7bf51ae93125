"""The writer into somebody's own table: for every type of key, in id order, for no dropped collection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from embedq_sql import statement
from embedq_worker.catalogue import Model
from embedq_worker.engine.work import content_hash
from embedq_worker.errors import (
    CollectionBusy,
    CollectionGone,
    ColumnGone,
    DatabaseBusy,
    RightsMissing,
    RowRefused,
    RowsLocked,
)
from embedq_worker.store import collections as stored
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection, drop_collection
from embedq_worker.store.ledger import look_up
from embedq_worker.store.own_table.table import OwnNames, find_own_table
from embedq_worker.store.own_table.writer import OwnWriter
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.rows import Part, Row
from tests.support.roles import name_in, role
from tests.support.stack import wait_until

MODEL = Model(id="small", dimensions=3)
IDS = ("2", "9", "10")


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The engine's connections."""
    opened = Database(database_url, connections=2)
    await opened.open()
    yield opened
    await opened.close()


def collection_of(connection: Connection, key_type: str = "text", ids: tuple[str, ...] = IDS) -> Collection:
    """A collection in a new table with a row for each id."""
    connection.execute(f"CREATE TABLE things (id {key_type} PRIMARY KEY, embedding vector(3))".encode())
    for each in ids:
        connection.execute(f"INSERT INTO things VALUES ('{each}')".encode())  # noqa: S608 # our own ids
    own = find_own_table(connection, OwnNames(table="things"))
    return create_collection(connection, name="things", model=MODEL, own=own)


def row(item_id: str, version: int = 1, text: str | None = "x") -> Row:
    """A text with its vector, or a delete."""
    parts = () if text is None else (Part(text, np.array([version, 1, 0], np.float32)),)
    return Row(item_id, version, content_hash(text), parts)


def held(connection: Connection) -> dict[str, str | None]:
    """The vectors in the table."""
    return dict(connection.execute("SELECT id::text, embedding::text FROM things").fetchall())


def somebody_waits(connection: Connection) -> bool:
    """Whether a transaction waits for another's lock."""
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return connection.execute(waiting).fetchone() is not None


UUIDS = tuple(f"{each:0>8}-0000-4000-8000-000000000000" for each in IDS)


@pytest.mark.parametrize(
    ("key_type", "ids"),
    [
        ("text", IDS),
        ('text COLLATE "C"', IDS),
        ('text COLLATE "POSIX"', IDS),
        ("varchar", IDS),
        ("varchar(4)", IDS),
        ("int", IDS),
        ("bigint", IDS),
        ("uuid", UUIDS),
    ],
)
async def test_every_type_of_key(
    database: Database, database_url: str, key_type: str, ids: tuple[str, ...]
) -> None:
    """An older version never overwrites a newer one, and a tombstone stands."""
    with connect(database_url) as connection:
        collection = collection_of(connection, key_type, ids)
        writer = OwnWriter(database, collection)
        first, second, third = ids

        assert await writer.write([row(first, 2), row(second, 2), row(third, 2)]) == set()
        assert await writer.write([row(first, 1), row(second, 3), row(third, 3, None)]) == {first}
        assert await writer.write([row(third, 2)]) == {third}
        assert held(connection) == {first: "[2,1,0]", second: "[3,1,0]", third: None}

        known = (await look_up(database, collection, ids)).known
        assert [known[each].has_vector for each in ids] == [True, True, False]
        assert await writer.touch([row(first, 4), row(second, 4), row(third, 4)]) == {first, second}
        assert held(connection) == {first: "[2,1,0]", second: "[3,1,0]", third: None}


async def test_an_id_without_a_row_is_named(database: Database, database_url: str) -> None:
    """Nothing of the batch is written then, ledger included; of a delete no row is wanted."""
    with connect(database_url) as connection:
        writer = OwnWriter(database, collection_of(connection))

        with pytest.raises(RowRefused) as caught:
            await writer.write([row("2"), row("3"), row("4"), row("5", 1, None)])

        assert (caught.value.sqlstate, set(caught.value.ids)) == ("no_row", {"3", "4"})
        assert held(connection) == dict.fromkeys(IDS)
        assert connection.execute("SELECT count(*) FROM embedq.item").fetchone() == (0,)
        assert await writer.write([row("2"), row("5", 1, None)]) == set()


async def test_the_same_version_is_written_again(database: Database, database_url: str) -> None:
    """The row may be another by now; an equal version of another text is still ordered by its digest."""
    with connect(database_url) as connection:
        writer = OwnWriter(database, collection_of(connection))
        low, high = sorted("xy", key=content_hash)
        await writer.write([row("2", 1, high)])
        connection.execute("UPDATE things SET embedding = NULL")

        assert await writer.touch([row("2", 2, high)]) == set()
        assert await writer.write([row("2", 1, high)]) == set()
        assert held(connection)["2"] == "[1,1,0]"
        assert await writer.write([row("2", 1, low)]) == {"2"}


@pytest.mark.parametrize(("blocked", "free"), [("10", {"2", "9"}), ("2", {"9"}), ("9", set())])
async def test_rows_are_locked_in_id_order(database_url: str, blocked: str, free: set[str]) -> None:
    """By bytes, as the ledger is, whatever the key's own order: what comes after is not held yet."""
    with connect(database_url) as connection, psycopg.connect(database_url) as other:
        # A plan that meets the rows in the key's own order: 2, 9, 10.
        merging = "&options=-cenable_nestloop%3Doff%20-cenable_hashjoin%3Doff"
        database = Database(database_url + merging, connections=1)
        await database.open()
        writer = OwnWriter(database, collection_of(connection, "int"))
        other.execute(f"SELECT FROM things WHERE id = {blocked} FOR UPDATE".encode())
        writing = asyncio.create_task(writer.write([row(each) for each in IDS]))
        await asyncio.to_thread(wait_until, lambda: somebody_waits(connection), 10)
        skipping = "SELECT id::text FROM things FOR UPDATE SKIP LOCKED"
        assert {item_id for (item_id,) in connection.execute(skipping)} == free
        other.rollback()
        assert await writing == set()
        await database.close()


async def test_a_locked_row_is_waited_for_elsewhere(database: Database, database_url: str) -> None:
    """Somebody's long transaction on a row: the database is busy, and the batch is tried again."""
    with connect(database_url) as connection, psycopg.connect(database_url) as other:
        writer = OwnWriter(database, collection_of(connection))
        other.execute("UPDATE things SET id = id WHERE id = '2'")
        with pytest.raises(DatabaseBusy):
            await writer.write([row("2")])


async def test_of_many_rows_the_locked_ones_are_named(database: Database, database_url: str) -> None:
    """After one wait; they are known from then on, and written once they are free. Deletes no less."""
    with connect(database_url) as connection, psycopg.connect(database_url) as other:
        writer = OwnWriter(database, collection_of(connection))
        other.execute("UPDATE things SET id = id WHERE id IN ('2', '9')")
        with pytest.raises(RowsLocked) as caught:
            await writer.write([row("2"), row("9", 1, None), row("10")])
        assert caught.value.ids == {"2", "9"}
        async with asyncio.timeout(1):  # no second wait
            with pytest.raises(RowsLocked):
                await writer.write([row("2"), row("10")])
            assert await writer.write([row("10")]) == set()
        assert held(connection) == {"2": None, "9": None, "10": "[1,1,0]"}
        other.rollback()
        assert await writer.write([row("2"), row("9", 1, None)]) == set()
        assert held(connection)["2"] == "[1,1,0]"


async def test_what_a_policy_refuses_is_a_row(database_url: str) -> None:
    """The rights are there. Where they are not, the owner is told what to grant, before anything is asked."""
    with connect(database_url) as connection, role(database_url, "worker") as theirs:
        name = sql.Identifier(name_in(theirs))
        collection = collection_of(connection)
        connection.execute("SELECT embedq.grant_worker(%s::regrole)", (name_in(theirs),))
        connection.execute("ALTER TABLE things ENABLE ROW LEVEL SECURITY")
        connection.execute(
            sql.SQL("CREATE POLICY most ON things TO {} USING (true) WITH CHECK (id <> '2')").format(name)
        )
        database = Database(theirs, connections=1)
        await database.open()
        try:
            with pytest.raises(RowRefused, match="42501"):
                await OwnWriter(database, collection).write([row("2"), row("9")])
            assert await OwnWriter(database, collection).write([row("9")]) == set()
            connection.execute(sql.SQL("REVOKE UPDATE (embedding) ON things FROM {}").format(name))
            grant = r"GRANT UPDATE \(embedding\) ON public.things TO"
            with pytest.raises(RightsMissing, match=grant):
                await look_up(database, collection, ["9"])
            with pytest.raises(RightsMissing, match=grant):
                await OwnWriter(database, collection).write([row("9", 2)])
        finally:
            await database.close()


async def test_a_renamed_column_is_gone(database: Database, database_url: str) -> None:
    """Found before anything is paid for, and by a write that comes first."""
    with connect(database_url) as connection:
        collection = collection_of(connection)
        connection.execute("ALTER TABLE things RENAME embedding TO vector")
        gone = r"public\.things has no column embedding"
        with pytest.raises(ColumnGone, match=gone):
            await look_up(database, collection, ["2"])
        with pytest.raises(ColumnGone, match=gone):
            await OwnWriter(database, collection).write([row("2")])


async def test_nothing_is_written_for_a_dropped_collection(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drop waits for the transaction of a writer, and a later writer sees it."""
    quick = {"limit_lock_wait": "SET LOCAL lock_timeout = '50ms'"}
    monkeypatch.setattr(stored, "statement", lambda name: quick.get(name) or statement(name))
    with connect(database_url) as connection, psycopg.connect(database_url) as writing:
        collection = collection_of(connection)
        writing.execute(statement("hold_collection"), {"collection_id": collection.id})
        with pytest.raises(CollectionBusy, match="in use"):
            drop_collection(connection, "things")
        writing.rollback()
        drop_collection(connection, "things")

        with pytest.raises(CollectionGone):
            await OwnWriter(database, collection).write([row("2")])
        assert held(connection) == dict.fromkeys(IDS)
        assert connection.execute("SELECT count(*) FROM embedq.item").fetchone() == (0,)


async def test_a_table_that_was_dropped_is_gone(database: Database, database_url: str) -> None:
    """For writing as for the ledger's question, which comes before anything is paid for."""
    with connect(database_url) as connection:
        collection = collection_of(connection)
        writer = OwnWriter(database, collection)
        await writer.write([row("2")])
        connection.execute("DROP TABLE things CASCADE")

        with pytest.raises(CollectionGone):
            await look_up(database, collection, ["2"])
        with pytest.raises(CollectionGone):
            await writer.write([row("2", 2)])
