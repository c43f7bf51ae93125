"""The epoch in Postgres: a number for the Redis that the outbox was sent to, held while it may change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.rows import scalar_row

from embedq_sql import statement
from embedq_worker.store.postgres.database import Connection, Database

UNUSED = 1
"""What a new database has: no Redis was sent anything."""


class HeldEpoch:
    """Nobody else changes it until the transaction ends."""

    def __init__(self, connection: Connection, value: int) -> None:
        self._connection = connection
        self.value = value

    async def set(self, epoch: int) -> None:
        """Begin another one: with it every row of the outbox is unsent."""
        await self._connection.execute(statement("set_epoch"), {"epoch": epoch})


@asynccontextmanager
async def held_epoch(database: Database) -> AsyncIterator[HeldEpoch]:
    """A transaction that holds the epoch. Raises ``StoreError``."""
    async with database.connection() as connection, connection.transaction():
        cursor = connection.cursor(row_factory=scalar_row)
        epoch = await (await cursor.execute(statement("hold_epoch"))).fetchone()
        yield HeldEpoch(connection, epoch or UNUSED)
