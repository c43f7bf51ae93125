"""The outbox: items enqueued in SQL that are not settled yet, as relays and sweeps see it.

What the statements lock and in which order, ``relay.sql`` says. All raise ``StoreError``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg.rows import args_row, tuple_row

from embedq.contract import MAX_MESSAGE_BYTES, queue_name
from embedq_sql import statement
from embedq_worker.store.dead_letters.burial import DeadLetter, bury_in
from embedq_worker.store.postgres.database import Connection, Database

COUNTED = 1_000
"""Rows of a lane, or of a collection, up to which they are counted."""
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
"""Before any row was sent."""


class OutboxLane(NamedTuple):
    """A collection's lane that has rows in the outbox, by the row that was sent longest ago."""

    collection_id: int
    collection: str | None
    """None: it was dropped."""
    model: str | None
    is_bulk: bool
    epoch: int
    age: float
    """Seconds since that row was sent, or enqueued if it never was."""

    @property
    def queue(self) -> str:
        """The queue that its rows are sent to."""
        return queue_name(self.collection or "", "bulk" if self.is_bulk else "live")


class OutboxRow(NamedTuple):
    """A row to be sent."""

    number: int
    id: str
    version: int
    source: str | None
    is_delete: bool
    text: str | None
    metadata: str | None
    """JSON."""
    is_too_large: bool
    """Whether no message holds its text, or its metadata: what is too large is None."""
    moved_at: float
    """Seconds since the epoch, by the clock of Postgres."""


class Swept(NamedTuple):
    """What a sweep of some rows found."""

    looked_at: int
    last: datetime | None
    removed: int


async def look_at(database: Database) -> tuple[int, list[OutboxLane]]:
    """The epoch, and the lanes that have rows."""
    async with database.connection() as connection:
        cursor = connection.cursor(row_factory=tuple_row)
        rows = await (await cursor.execute(statement("look_at_outbox"), prepare=False)).fetchall()
    present: int = rows[0][0]
    return present, [OutboxLane(*row[1:]) for row in rows if row[1] is not None]


class Claimed:
    """Rows of one lane that nobody else sends until the transaction ends."""

    def __init__(self, connection: Connection, rows: Sequence[OutboxRow]) -> None:
        self._connection = connection
        self.rows = rows

    async def mark_sent(self, numbers: Sequence[int], epoch: int) -> None:
        """These are in the Redis of that epoch."""
        await self._run("mark_sent", {"numbers": numbers, "epoch": epoch})

    async def bury(self, letters: Sequence[DeadLetter], numbers: Sequence[int]) -> None:
        """Dead letters in place of the rows with these numbers."""
        await bury_in(self._connection, letters)
        await self._run("remove_from_outbox", {"numbers": numbers})

    async def _run(self, name: str, parameters: dict[str, Any]) -> None:
        await self._connection.execute(statement(name), parameters, prepare=False)


@asynccontextmanager
async def claimed(
    database: Database, lane: OutboxLane, *, epoch: int, age: float | None, rows: int, size: int
) -> AsyncIterator[Claimed]:
    """A transaction with the next rows of a lane: unsent, then those sent longer ago than ``age`` seconds.

    At most so many ``rows``, and no more once they have ``size`` bytes. Without rows where others send them.
    """
    wanted = {
        "collection_id": lane.collection_id,
        "is_bulk": lane.is_bulk,
        "epoch": epoch,
        "age": age,
        "rows": rows,
        "bytes": size,
        "largest": MAX_MESSAGE_BYTES,
    }
    async with database.connection() as connection, connection.transaction():
        cursor = connection.cursor(row_factory=args_row(OutboxRow))
        async with connection.pipeline():
            await connection.execute(statement("plan_by_index"))
            await cursor.execute(statement("claim_outbox"), wanted, prepare=False)
        yield Claimed(connection, await cursor.fetchall())


async def sweep(
    database: Database, lane: OutboxLane, *, epoch: int, since: datetime, after: float, rows: int
) -> Swept:
    """Remove what is settled of the rows sent to Redis since then, but in the last ``after`` seconds."""
    wanted = {
        "collection_id": lane.collection_id,
        "is_bulk": lane.is_bulk,
        "epoch": epoch,
        "since": since,
        "after": after,
        "rows": rows,
    }
    async with database.connection() as connection, connection.transaction():
        await connection.execute(statement("plan_by_index"))
        cursor = connection.cursor(row_factory=args_row(Swept))
        await cursor.execute(statement("sweep_outbox"), wanted, prepare=False)
        return await cursor.fetchone() or Swept(0, None, 0)


async def remove_orphans(database: Database, collection_id: int, rows: int) -> int:
    """Remove so many rows of a collection that was dropped; returns how many there were."""
    wanted = {"collection_id": collection_id, "rows": rows}
    async with database.connection() as connection:
        return (await connection.execute(statement("remove_orphans"), wanted, prepare=False)).rowcount


async def count_some_unsent(database: Database) -> list[tuple[str, bool, int]]:
    """Collection, whether its lane is bulk, and its unsent rows, counted up to ``COUNTED``."""
    async with database.connection() as connection:
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(statement("count_some_unsent"), {"most": COUNTED}, prepare=False)
        return [(name, is_bulk, rows) for name, is_bulk, rows in await cursor.fetchall()]
