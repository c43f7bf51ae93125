"""Retention: what is old enough is removed, in small batches and by one process at a time."""

from __future__ import annotations

from typing import LiteralString

from embedq_sql import statement
from embedq_worker.store.postgres.database import Database

BATCH = 1_000
"""Rows of one transaction: short enough for writers that wait for it."""


async def remove_texts(database: Database, days: float) -> int:
    """Remove texts of dead letters that died last more than ``days`` ago; see ``remove_tombstones``."""
    return await _remove(database, statement("remove_texts"), days)


async def remove_tombstones(database: Database, days: float) -> int:
    """Forget ids that were deleted more than ``days`` ago, at most ``BATCH`` of them; returns how many.

    0 also while another process is at it. Raises ``DatabaseAway``, or ``CollectionGone`` where embedq's own
    tables are missing.
    """
    return await _remove(database, statement("remove_tombstones"), days)


async def _remove(database: Database, remove: LiteralString, days: float) -> int:
    async with database.connection() as connection, connection.transaction():
        cursor = await connection.execute(statement("try_retention"))
        if await cursor.fetchone() != (True,):
            return 0
        return (await connection.execute(remove, {"days": days, "limit": BATCH})).rowcount
