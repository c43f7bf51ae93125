"""The writer.

Many items of one collection in one transaction, each only where it is newer than what is stored.

Rows land in a temporary table by binary COPY, one for each part of a text; the ledger then lets pass those
that are newer, in id order, and the collection's rows of exactly these ids are replaced. A transaction holds
the table and fails where it is another collection's by now, or has other models' columns: what was embedded
for a dropped one fits no other. Not for PgBouncer in transaction mode: the temporary table is made once a
connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from embedq_sql import statement
from embedq_worker.store import rows
from embedq_worker.store.collection import Collection, Layout
from embedq_worker.store.held import Held
from embedq_worker.store.postgres.database import Connection, Database
from embedq_worker.store.rows import Row


class Writer:
    """Writes to one collection."""

    _writes_again = False
    """Whether a version that is stored already is written again; else it counts as superseded."""

    def __init__(self, database: Database, collection: Collection) -> None:
        self._database = database
        self._collection = collection
        self._id = {"collection_id": collection.id}
        self._held = Held(collection)
        self._landing = "_".join(["embedq_incoming", str(collection.id), *_generations(collection)])
        both = "" if collection.shadow is None else "_of_both"
        self._incoming = sql.Identifier("pg_temp", self._landing)
        names = {
            "table": collection.table,
            "incoming": self._incoming,
            **_vectors(collection),
        }
        made = {**names, "incoming": sql.Identifier(self._landing)}
        self._make_incoming = sql.SQL(statement(f"make_incoming{both}")).format(**made)
        self._copy = sql.SQL(statement("copy_incoming")).format(**names)
        self._advance = sql.SQL(statement("advance_ledger")).format(**names)
        self._remove = sql.SQL(statement("remove_rows")).format(**names)
        self._put = sql.SQL(statement(f"put_rows{both}")).format(**names)
        self._touch_ledger = statement("touch_ledger")
        self._touch_rows = sql.SQL(statement("touch_rows")).format(**names)

    @property
    def layout(self) -> Layout:
        """Whose vectors it writes, to which columns."""
        return self._collection.layout

    async def write(self, batch: Sequence[Row]) -> set[str]:
        """Store or delete; returns the ids whose stored version is newer: they were left alone.

        ``batch`` holds an id once. Raises ``RowRefused``, ``CollectionGone``, ``CollectionMoved`` or
        ``DatabaseAway``; nothing is written then.
        """
        ordered = sorted(
            batch, key=lambda row: row.id.encode()
        )  # lock in byte order, like the ledger's index
        shadow = self._collection.shadow
        stream = rows.encode(ordered, self._collection.vector_type, shadow.vector_type if shadow else None)
        async with self._database.connection() as connection:
            await self._prepare(connection)
            async with connection.transaction():
                await self._held.hold(connection)
                return await self._replace(connection, ordered, stream)

    async def touch(self, batch: Sequence[Row]) -> set[str]:
        """Move the versions of items whose text is stored already.

        Returns the ids for which that still holds.

        The vector is not written. Raises like ``write``.
        """
        ordered = sorted(batch, key=lambda row: row.id.encode())
        async with self._database.connection() as connection, connection.transaction():
            await self._held.hold(connection)
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
            await self._settle_outbox(connection, kept)
            return touched

    async def _touch_versions(self, connection: Connection, batch: Sequence[Row]) -> set[str]:
        cursor = await connection.execute(self._touch_ledger, {**self._id, **_orders(batch)})
        return {str(row[0]) for row in await cursor.fetchall()}

    async def _prepare(self, connection: Connection) -> None:
        if not self._database.has_made(connection, self._landing):
            await connection.execute(self._make_incoming)
            self._database.note_made(connection, self._landing)

    async def _replace(self, connection: Connection, batch: Sequence[Row], stream: bytes) -> set[str]:
        cursor = connection.cursor()
        async with cursor.copy(self._copy) as copy:
            await copy.write(stream)
        await cursor.execute(self._advance, {**self._id, "again": self._writes_again})
        superseded = {row.id for row in batch} - {str(row[0]) for row in await cursor.fetchall()}
        await self._put_parts(connection, batch, superseded)
        await self._settle_outbox(connection, batch)
        return superseded

    async def _settle_outbox(self, connection: Connection, settled: Sequence[Row]) -> None:
        """Stored or superseded: what of it came by the outbox leaves that in the same transaction."""
        relayed = [row for row in settled if row.is_from_outbox]
        if relayed:
            wanted = {**self._id, **_orders(relayed)}
            await connection.execute(statement("settle_outbox"), wanted, prepare=False)

    async def _put_parts(self, connection: Connection, batch: Sequence[Row], superseded: set[str]) -> None:
        # Where texts are not chunked, no id has rows that its new text would leave behind.
        if self._collection.on_too_long == "chunk" or not all(row.parts for row in batch):
            await connection.execute(self._remove, {"superseded": list(superseded)})
        if any(row.parts for row in batch):
            await connection.execute(self._put, {"superseded": list(superseded)})


def _orders(batch: Sequence[Row]) -> dict[str, list[Any]]:
    """What orders the writes of each id."""
    return {
        "ids": [row.id for row in batch],
        "versions": [row.version for row in batch],
        "hashes": [row.content_hash for row in batch],
    }


def _generations(collection: Collection) -> list[str]:
    """Other vectors are of other types: they land in another temporary table."""
    return [str(generation) for generation in collection.layout if generation is not None]


def _vectors(collection: Collection) -> dict[str, sql.Composable]:
    shadow = collection.shadow
    if shadow is None:
        return {"vector": vector_type(collection)}
    other = {"other": vector_type(collection.as_shadow()), "shadow": sql.Identifier(shadow.column_name)}
    return {"vector": vector_type(collection), **other}


def vector_type(collection: Collection) -> sql.Composed:
    """The type of its column of vectors."""
    return sql.SQL("{}({})").format(sql.SQL(collection.vector_type), sql.Literal(collection.dimensions))
