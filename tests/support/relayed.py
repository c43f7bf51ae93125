"""The outbox and its relay for tests: rows put in, what came out, and a relay without a worker."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
import redis as redis_client
import redis.asyncio as redis

from embedq_worker.engine.outbox.relay import Relay
from embedq_worker.engine.outbox.sweep import Sweep
from embedq_worker.settings import Settings, WorkerSettings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import connect
from embedq_worker.store.postgres.database import Database

MODEL = Settings().catalogue.usable("text-embedding-3-small")


@dataclass
class Outbox:
    """An outbox of the collection ``docs``, and a relay that is run round by round."""

    database_url: str
    broker_url: str
    database: Database
    client: redis.Redis
    collection: Collection
    relay: Relay
    sweep: Sweep

    def another(self, **settings: Any) -> Relay:
        """One more relay, as of another process."""
        return relay_of(self.database_url, self.broker_url, self.database, self.client, settings)

    def sql(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query, which is committed."""
        with psycopg.connect(self.database_url) as connection:
            cursor = connection.execute(query, parameters)
            return cursor.fetchall() if cursor.description else []

    def put(self, item_id: str, text: str | None = "a text", version: int = 1, **columns: object) -> None:
        """A row, as a trigger might write it: held against no rule."""
        row = {"metadata": None, "source": None, "is_bulk": False, **columns}
        self.sql(
            "INSERT INTO embedq.outbox (collection_id, id, version, text, metadata, source, is_bulk) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            *(self.collection.id, item_id, version, text),
            *(row["metadata"], row["source"], row["is_bulk"]),
        )

    def put_many(self, count: int, bulk: bool = False) -> None:
        """Rows with the ids 1 to ``count``."""
        self.sql(
            "INSERT INTO embedq.outbox (collection_id, id, version, text, is_bulk) "
            "SELECT %s, number, 1, 'text ' || number, %s FROM generate_series(1, %s) AS number",
            *(self.collection.id, bulk, count),
        )

    def rows(self) -> list[tuple[str, int, int]]:
        """Id, version and epoch of each row."""
        return self.sql("SELECT id, version, epoch FROM embedq.outbox ORDER BY id, version")

    def epoch(self) -> int:
        """That of Postgres."""
        return int(self.sql("SELECT epoch FROM embedq.broker")[0][0])

    def queued(self, queue: str = "embedq.docs") -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Headers and job of each message in a queue, the oldest first."""
        with redis_client.Redis.from_url(self.broker_url) as client:
            messages: Any = client.lrange(queue, 0, -1)
        return [opened(message) for message in reversed(messages)]

    def items(self, queue: str = "embedq.docs") -> list[dict[str, Any]]:
        """The items of all messages in a queue."""
        return [item for _, job in self.queued(queue) for item in job["items"]]


def opened(message: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Headers and job of a message as it stands in Redis."""
    envelope = json.loads(message)
    return envelope["headers"], json.loads(base64.b64decode(envelope["body"]))[1]["job"]


def relay_of(
    database_url: str,
    broker_url: str,
    database: Database,
    client: redis.Redis,
    settings: dict[str, Any],
    is_held: Callable[[str], bool] = lambda _: False,
) -> Relay:
    """A relay with some settings of the table [worker]."""
    made = Settings(broker_url=broker_url, database_url=database_url, worker=WorkerSettings(**settings))
    return Relay(made, database, client, is_held)


@asynccontextmanager
async def outbox(database_url: str, broker_url: str, **settings: Any) -> AsyncIterator[Outbox]:
    """An outbox whose relay has not looked at anything yet."""
    with connect(database_url) as connection:
        collection = create_collection(connection, name="docs", model=MODEL, dimensions=4)
    database = Database(database_url, connections=4)
    client = redis.Redis.from_url(broker_url)
    await database.open()
    try:
        relay = relay_of(database_url, broker_url, database, client, settings)
        sweep = Sweep(database, after=0)
        yield Outbox(database_url, broker_url, database, client, collection, relay, sweep)
    finally:
        await client.aclose()
        await database.close()
