"""The backfill of watched tables: steps that enqueue what was there before, each with its progress.

The functions raise ``StoreError``, as ``Database.connection`` does.
"""

from __future__ import annotations

from psycopg import sql
from psycopg.rows import class_row, scalar_row

from embedq_sql import statement, template
from embedq_worker.store.outbox.watches import WatchState
from embedq_worker.store.postgres.database import Database


async def read_watches(database: Database) -> list[WatchState]:
    """Every watch, by its collection's name."""
    async with database.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(WatchState))
        await cursor.execute(statement("watches"))
        return await cursor.fetchall()


async def count_waiting(database: Database, collection: str, most: int) -> int:
    """Rows of the collection's lane bulk that no relay has sent yet, at most ``most``."""
    async with database.connection() as connection:
        cursor = connection.cursor(row_factory=scalar_row)
        wanted = {"collection": collection, "most": most}
        # Planned anew: a plan from when the outbox was empty would read all of it, several times a second.
        await cursor.execute(statement("bulk_waiting"), wanted, prepare=False)
        (waiting,) = await cursor.fetchall()
        return int(waiting)


async def fill_step(database: Database, collection: str, rows: int) -> int | None:
    """Enqueue the next ``rows`` of a watched table; how many there were.

    0: that was all. None: another process is at it, or it was done before.
    """
    fill = sql.SQL(template("fill_watched")).format(function=sql.Identifier(f"{collection}_fill"))
    async with database.connection() as connection:
        cursor = connection.cursor(row_factory=scalar_row)
        await cursor.execute(fill, {"most": rows})
        read: int | None = await cursor.fetchone()
        return read
