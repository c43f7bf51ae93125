"""The writer's guard of versions, by itself: no look-up before it hides it."""

from __future__ import annotations

import asyncio
import random

import msgspec
import numpy as np
import psycopg

from embedq_worker.engine.work import content_hash
from embedq_worker.settings import Settings
from embedq_worker.store.collection import OnTooLong
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import connect
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.rows import Part, Row
from embedq_worker.store.writer import Writer


def row(version: int, *, item_id: str = "1", text: str | None = None, deleted: bool = False) -> Row:
    """A row of a version; a delete has no vector."""
    if deleted:
        return Row(id=item_id, version=version, content_hash=b"")
    content = text or f"version {version}"
    vector = np.full(4, version + 1, dtype=np.float32)
    return Row(item_id, version, content_hash(content), (Part(content, vector),))


def parts(version: int, *contents: str, item_id: str = "1") -> Row:
    """A row of a version in parts, each with a vector of its own."""
    made = tuple(
        Part(content, np.full(4, version + chunk / 8, np.float32)) for chunk, content in enumerate(contents)
    )
    return Row(item_id, version, content_hash("|".join(contents)), made, b'{"k": 1}', 7, truncated=True)


def writer(database_url: str, database: Database, on_too_long: OnTooLong = "error") -> Writer:
    """A writer of a new collection of four dimensions."""
    model = Settings().catalogue.usable("text-embedding-3-small")
    with connect(database_url) as connection:
        made = create_collection(connection, name="docs", model=model, dimensions=4)
    return Writer(database, msgspec.structs.replace(made, on_too_long=on_too_long))


def stored(database_url: str) -> list[tuple[str, str, int]]:
    """Id, content and version of every row."""
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT id, content, version FROM docs ORDER BY id").fetchall()


async def test_an_older_version_is_left_alone(database_url: str) -> None:
    """Superseded, whatever the order; of equal versions the higher hash wins; a delete counts like a text."""
    database = Database(database_url, connections=2)
    await database.open()
    writes = writer(database_url, database)
    assert await writes.write([row(5)]) == set()
    assert await writes.write([row(4)]) == {"1"}
    assert stored(database_url) == [("1", "version 5", 5)]
    low, high = sorted(("a", "b"), key=content_hash)
    assert await writes.write([row(6, text=high)]) == set()
    assert await writes.write([row(6, text=low)]) == {"1"}
    assert await writes.write([row(8, deleted=True)]) == set()
    assert await writes.write([row(7)]) == {"1"}
    assert stored(database_url) == []
    assert await writes.write([row(9)]) == set()
    assert stored(database_url) == [("1", "version 9", 9)]
    await database.close()


async def test_the_highest_version_wins_a_race(database_url: str) -> None:
    """Forty versions of ten ids, deletes among them, shuffled over four writers at a time."""
    database = Database(database_url, connections=4)
    await database.open()
    writes = writer(database_url, database)
    versions = [
        [row(version, item_id=str(number), deleted=version % 5 == 0) for number in range(10)]
        for version in range(1, 42)
    ]
    random.Random(7).shuffle(versions)
    free = asyncio.Semaphore(4)

    async def write(batch: list[Row]) -> None:
        async with free:
            await writes.write(batch)

    await asyncio.gather(*(write(batch) for batch in versions))
    assert stored(database_url) == [(str(number), "version 41", 41) for number in range(10)]
    await database.close()


async def test_an_item_in_parts(database_url: str) -> None:
    """As many rows as parts, in their order, through growing, shrinking, a move of the version, a delete."""
    database = Database(database_url, connections=1)
    await database.open()
    writes = writer(database_url, database, "chunk")

    def chunks(item_id: str = "1") -> list[tuple[int, str, int, list[float]]]:
        with psycopg.connect(database_url) as connection:
            return connection.execute(
                "SELECT chunk, content, version, (embedding::real[])[1:1] FROM docs WHERE id = %s"
                " ORDER BY chunk",
                (item_id,),
            ).fetchall()

    def ledger() -> list[tuple[int, int, bool]]:
        with psycopg.connect(database_url) as connection:
            return connection.execute(
                "SELECT version, chunks, truncated FROM embedq.item WHERE id = '1'"
            ).fetchall()

    await writes.write([parts(1, "a", "b"), parts(1, "other", "one", item_id="2")])
    assert chunks() == [(0, "a", 1, [1.0]), (1, "b", 1, [1.125])]
    assert ledger() == [(1, 2, True)]
    await writes.write([parts(2, "a", "b", "c")])
    assert chunks() == [(0, "a", 2, [2.0]), (1, "b", 2, [2.125]), (2, "c", 2, [2.25])]
    assert await writes.write([parts(1, "x", "y", "z", "late")]) == {"1"}
    await writes.write([parts(3, "b")])
    assert chunks() == [(0, "b", 3, [3.0])]
    assert ledger() == [(3, 1, True)]
    await writes.write([parts(4, "d", "e")])
    moved = msgspec.structs.replace(parts(4, "d", "e"), version=5)
    assert await writes.touch([moved]) == {"1"}
    assert chunks() == [(0, "d", 5, [4.0]), (1, "e", 5, [4.125])]
    await writes.write([row(6, deleted=True)])
    assert (chunks(), ledger()) == ([], [(6, 0, False)])
    assert [each[1] for each in chunks("2")] == ["other", "one"]
    await database.close()
