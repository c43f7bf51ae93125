"""Scenario ``relay``: rows a second from the outbox to Redis, of one process, and what it costs when idle.

Texts of 512 characters, no worker; Postgres syncs what it commits.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import redis.asyncio as redis

from embedq_worker.cancelling import cancel_all
from embedq_worker.catalogue import Model
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.valkey import Valkey
from embedq_worker.engine.outbox.relay import Relay
from embedq_worker.engine.outbox.relaying import Relaying
from embedq_worker.settings import Settings, WorkerSettings
from embedq_worker.store.collections import create_collection
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import connect
from embedq_worker.store.postgres.database import Database
from tests.bench.report import Report

WANTED = 5_000
"""Items a second."""
_IDLE_FOR = 5.0
_FILL = """
    INSERT INTO embedq.outbox (collection_id, id, version, text)
    SELECT collection.id, number, 1, repeat(md5(number::text), 16)
    FROM embedq.collection, generate_series(1, %s) AS number
"""


def run(report: Report, quick: bool) -> None:
    """All that one process does alone."""
    rows = 10_000 if quick else 100_000
    with Postgres() as postgres, Valkey() as valkey:
        url = postgres.create_database("bench")
        with connect(url) as connection:
            apply_migrations(connection)
            create_collection(connection, name="docs", model=Model(id="small", dimensions=3))
            connection.execute(_FILL, [rows])
        worker = WorkerSettings(outbox_queue=1_000_000)
        settings = Settings(broker_url=valkey.url, database_url=url, worker=worker)
        asyncio.run(_measure(report, settings, rows))


async def _measure(report: Report, settings: Settings, rows: int) -> None:
    database = Database(settings.database_url, connections=2)
    client = redis.Redis.from_url(settings.broker_url)
    await database.open()
    try:
        relay = Relay(settings, database, client, lambda _: False)
        began, cpu = time.monotonic(), time.process_time()
        sent = 0
        while sent < rows:
            sent += await relay.go_round()
        report.add("items/s through one process", rows / (time.monotonic() - began), at_least=WANTED)
        report.add("CPU of that process, µs an item", (time.process_time() - cpu) / rows * 1e6, "{:.1f}")
        await client.flushall()
        began = time.monotonic()
        while await relay.go_round() or await client.llen("embedq.docs") < rows // 256:
            pass
        report.add("items/s again, after FLUSHALL", rows / (time.monotonic() - began), at_least=WANTED)
        await _measure_idle(report, settings, database, client)
    finally:
        await client.aclose()
        await database.close()


async def _measure_idle(report: Report, settings: Settings, database: Database, client: redis.Redis) -> None:
    relaying = Relaying(settings, database, client, lambda _: False)
    before = await _asked(database, client)
    task = asyncio.create_task(relaying.run())
    await asyncio.sleep(_IDLE_FOR)
    await cancel_all([task])
    await asyncio.sleep(1)  # until Postgres has counted
    after = await _asked(database, client)
    transactions, commands = ((now - then) / _IDLE_FOR for now, then in zip(after, before, strict=True))
    report.add("idle: transactions of Postgres a second", transactions, "{:.1f}", at_most=12)
    report.add("idle: commands of Redis a second", commands, "{:.1f}", at_most=3)


async def _asked(database: Database, client: redis.Redis) -> tuple[int, int]:
    """Transactions of Postgres, and commands of Redis, so far."""
    async with database.connection() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        cursor = await connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        )
        row: Any = await cursor.fetchone()
    stats: Any = await client.info("stats")
    return int(row[0]), int(stats["total_commands_processed"])
