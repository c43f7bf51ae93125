"""The floor.

Texts straight from memory through the same HTTP client into COPY and upsert, with no queue and no ledger.

Run as a process of its own: prints one JSON line with seconds and CPU seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time

from psycopg import sql

from embedq_sql import statement
from embedq_worker.api.client import ApiClient
from embedq_worker.settings import Settings
from embedq_worker.store import rows
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import get_collection
from embedq_worker.store.postgres.connections import connect
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.rows import Part, Row
from tests.bench.corpus import texts

CALLS = 16
BATCH = 256


async def run(
    settings: Settings, collection: Collection, count: int, seed: int, writers: int
) -> dict[str, float]:
    """Embed and store ``count`` texts; seconds on the clock and of this process's CPU."""
    corpus = list(texts(count, seed))
    model = settings.catalogue.usable(collection.model)
    database = Database(settings.database_url, connections=writers)
    await database.open()
    write = _Upsert(database, collection, writers)
    starts = iter(range(0, count, BATCH))

    async def caller(client: ApiClient) -> None:
        for start in starts:
            batch = corpus[start : start + BATCH]
            answer = await client.embed(model, batch, collection.dimensions, "document")
            await write(
                [
                    Row(
                        id=f"{seed}-{start + at}",
                        version=1,
                        content_hash=b"",
                        parts=(Part(text, answer.vectors[at]),),
                    )
                    for at, text in enumerate(batch)
                ]
            )

    started, cpu = time.monotonic(), _cpu()
    async with ApiClient(settings) as client:
        await asyncio.gather(*(caller(client) for _ in range(CALLS)))
    figures = {"seconds": time.monotonic() - started, "cpu": _cpu() - cpu}
    await database.close()
    return figures


class _Upsert:
    """COPY into a temporary table, then upsert: nothing but the rows."""

    def __init__(self, database: Database, collection: Collection, writers: int) -> None:
        self._database = database
        self._collection = collection
        self._free = asyncio.Semaphore(writers)
        names = {
            "table": sql.Identifier(collection.table_schema, collection.name),
            "incoming": sql.Identifier(f"floor_{collection.id}"),
            "vector": sql.SQL("{}({})").format(
                sql.SQL(collection.vector_type), sql.Literal(collection.dimensions)
            ),
        }
        self._make, self._copy, self._put = (
            sql.SQL(statement(name)).format(**names)
            for name in ("make_incoming", "copy_incoming", "put_rows")
        )

    async def __call__(self, batch: list[Row]) -> None:
        stream = rows.encode(batch, self._collection.vector_type)
        async with self._free, self._database.connection() as connection:
            if not self._database.has_made(connection, "embedq_incoming"):
                await connection.execute(self._make)
                self._database.note_made(connection, "embedq_incoming")
            async with connection.transaction():
                cursor = connection.cursor()
                async with cursor.copy(self._copy) as copy:
                    await copy.write(stream)
                await cursor.execute(self._put, {"superseded": []})


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run from the environment that a worker has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("collection")
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("writers", type=int, help="connections that write at a time")
    arguments = parser.parse_args()
    settings = Settings.from_environment()
    with connect(settings.database_url) as connection:
        collection = get_collection(connection, arguments.collection)
    print(
        json.dumps(asyncio.run(run(settings, collection, arguments.count, arguments.seed, arguments.writers)))
    )


if __name__ == "__main__":
    main()
