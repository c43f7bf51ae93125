"""The writer.

Many items of one collection in one transaction, each only where it is newer than what is stored.

Rows land in a temporary table by binary COPY, one for each part of a text; the ledger then lets pass those
that are newer, in id order, and the collection's rows of exactly these ids are replaced. A transaction holds
the table and fails where it is another collection's by now: what was embedded for a dropped one fits no
other. Not for PgBouncer in transaction mode: the temporary table is made once a connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from embedq_sql import statement
from embedq_worker.errors import CollectionGone
from embedq_worker.store import rows
from embedq_worker.store.collection import Collection
from embedq_worker.store.database import Connection, Database
from embedq_worker.store.rows import Row


class Writer:
    """Writes to one collection."""

    _writes_again = False
    """Whether a version that is stored already is written again; else it counts as superseded."""

    def __init__(self, database: Database, collection: Collection) -> None:
        self._database = database
        self._collection = collection
        self._id = {"collection_id": collection.id}
        self._incoming = sql.Identifier("pg_temp", f"embedq_incoming_{collection.id}")
        names = {
            "table": collection.table,
            "incoming": self._incoming,
            "vector": _vector_type(collection),
        }
        made = {**names, "incoming": sql.Identifier(f"embedq_incoming_{collection.id}")}
        self._hold_table = sql.SQL(statement("hold_table")).format(**names)
        self._is_registered = statement("is_registered")
        self._make_incoming = sql.SQL(statement("make_incoming")).format(**made)
        self._copy = sql.SQL(statement("copy_incoming")).format(**names)
        self._advance = sql.SQL(statement("advance_ledger")).format(**names)
        self._remove = sql.SQL(statement("remove_rows")).format(**names)
        self._put = sql.SQL(statement("put_rows")).format(**names)
        self._touch_ledger = statement("touch_ledger")
        self._touch_rows = sql.SQL(statement("touch_rows")).format(**names)

    async def write(self, batch: Sequence[Row]) -> set[str]:
        """Store or delete; returns the ids whose stored version is newer: they were left alone.

        ``batch`` holds an id once. Raises ``RowRefused``, ``CollectionGone`` or ``DatabaseAway``; nothing
        is written then.
        """
        ordered = sorted(
            batch, key=lambda row: row.id.encode()
        )  # lock in byte order, like the ledger's index
        stream = rows.encode(ordered, self._collection.vector_type)
        async with self._database.connection() as connection:
            await self._prepare(connection)
            async with connection.transaction():
                await self._hold(connection)
                return await self._replace(connection, ordered, stream)

    async def touch(self, batch: Sequence[Row]) -> set[str]:
        """Move the versions of items whose text is stored already.

        Returns the ids for which that still holds.

        The vector is not written. Raises like ``write``.
        """
        ordered = sorted(batch, key=lambda row: row.id.encode())
        async with self._database.connection() as connection, connection.transaction():
            await self._hold(connection)
            touched = await self._touch_versions(connection, ordered)
            kept = [row for row in ordered if row.id in touched]
            await connection.execute(
                self._touch_rows,
                {
                    "ids": [row.id for row in kept],
                    "versions": [row.version for row in kept],
                    "metadata": [(row.metadata or b"{}").decode() for row in kept],
                },
            )
            return touched

    async def _touch_versions(self, connection: Connection, batch: Sequence[Row]) -> set[str]:
        wanted = {
            "ids": [row.id for row in batch],
            "versions": [row.version for row in batch],
            "hashes": [row.content_hash for row in batch],
        }
        cursor = await connection.execute(self._touch_ledger, {**self._id, **wanted})
        return {str(row[0]) for row in await cursor.fetchall()}

    async def _prepare(self, connection: Connection) -> None:
        if not self._database.has_made(connection, self._collection.id):
            await connection.execute(self._make_incoming)
            self._database.note_made(connection, self._collection.id)

    async def _hold(self, connection: Connection) -> None:
        """Keep the table from being dropped; both questions in one round trip."""
        async with connection.pipeline():
            await connection.execute(self._hold_table, self._id)
            cursor = await connection.execute(
                self._is_registered, {**self._id, "name": self._collection.name}
            )
        if await cursor.fetchone() != (True,):
            raise CollectionGone("the collection was dropped, and its name may have been given again")

    async def _replace(self, connection: Connection, batch: Sequence[Row], stream: bytes) -> set[str]:
        cursor = connection.cursor()
        async with cursor.copy(self._copy) as copy:
            await copy.write(stream)
        await cursor.execute(self._advance, {**self._id, "again": self._writes_again})
        superseded = {row.id for row in batch} - {str(row[0]) for row in await cursor.fetchall()}
        await self._put_parts(connection, batch, superseded)
        return superseded

    async def _put_parts(self, connection: Connection, batch: Sequence[Row], superseded: set[str]) -> None:
        # Where texts are not chunked, no id has rows that its new text would leave behind.
        if self._collection.on_too_long == "chunk" or not all(row.parts for row in batch):
            await connection.execute(self._remove, {"superseded": list(superseded)})
        if any(row.parts for row in batch):
            await connection.execute(self._put, {"superseded": list(superseded)})


def _vector_type(collection: Collection) -> sql.Composed:
    return sql.SQL("{}({})").format(sql.SQL(collection.vector_type), sql.Literal(collection.dimensions))
