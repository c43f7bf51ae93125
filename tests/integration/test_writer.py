"""The writer's guard of versions, by itself: no look-up before it hides it."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import psycopg

from embedq_worker.engine.work import content_hash
from embedq_worker.settings import Settings
from embedq_worker.store.collections import create_collection
from embedq_worker.store.connections import connect
from embedq_worker.store.database import Database
from embedq_worker.store.rows import Row
from embedq_worker.store.writer import Writer


def row(version: int, *, item_id: str = "1", text: str | None = None, deleted: bool = False) -> Row:
    """A row of a version; a delete has no vector."""
    if deleted:
        return Row(id=item_id, version=version, content_hash=b"")
    content = text or f"version {version}"
    vector = np.full(4, version + 1, dtype=np.float32)
    return Row(
        id=item_id, version=version, content_hash=content_hash(content), content=content, vector=vector
    )


def writer(database_url: str, database: Database) -> Writer:
    """A writer of a new collection of four dimensions."""
    model = Settings().catalogue.usable("text-embedding-3-small")
    with connect(database_url) as connection:
        return Writer(database, create_collection(connection, name="docs", model=model, dimensions=4))


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
