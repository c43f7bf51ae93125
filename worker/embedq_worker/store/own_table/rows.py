"""Rows of somebody's own table, found by an item's id; of them embedq writes the vectors alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from psycopg import sql
from psycopg.rows import class_row

from embedq_sql import statement
from embedq_worker.errors import CollectionGone, ColumnGone, RightsMissing
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.database import Connection


class _Standing(NamedTuple):
    """One column that is read or written; see ``own_standing``."""

    name: str
    has_table: bool
    is_there: bool
    schema_grant: str | None
    column_grant: str | None


class OwnRows:
    """The rows of one collection. All methods raise the driver's errors."""

    def __init__(self, collection: Collection) -> None:
        self._names = {
            "table": collection.table,
            "key_column": sql.Identifier(collection.key_column),
            "key_type": sql.SQL(collection.key_type),  # Postgres has named it
            "vectors": sql.Identifier(collection.vector_column),
        }
        self._place = f"{collection.table_schema}.{collection.table_name}"
        self._columns = {
            "table_schema": collection.table_schema,
            "table_name": collection.table_name,
            "key_column": collection.key_column,
            "vector_column": collection.vector_column,
        }
        self._look_up = sql.SQL(statement("look_up_rows")).format(**self._names)
        self._lock = sql.SQL(statement("lock_free_rows")).format(**self._names)

    async def look_up(self, connection: Connection, ids: Iterable[str]) -> dict[str, bool]:
        """Those of these ids that have a row, and whether it has a vector."""
        cursor = await connection.execute(self._look_up, {"ids": list(ids)})
        return {str(item_id): bool(has_vector) for item_id, has_vector in await cursor.fetchall()}

    async def locked(self, connection: Connection, ids: Iterable[str]) -> set[str]:
        """Those of these ids whose row another transaction has locked at this moment."""
        free = await connection.execute(self._lock, {"ids": list(ids)})
        unlocked = {str(row[0]) for row in await free.fetchall()}
        return set(await self.look_up(connection, ids)) - unlocked

    async def check(self, connection: Connection) -> None:
        """Whether vectors can be written: asked before they are paid for.

        Raises ``CollectionGone``, ``ColumnGone`` and ``RightsMissing``, too.
        """
        cursor = connection.cursor(row_factory=class_row(_Standing))
        columns = await (await cursor.execute(statement("own_standing"), self._columns)).fetchall()
        if not all(each.has_table for each in columns):
            raise CollectionGone(f"the table {self._place} is gone")
        if gone := [each.name for each in columns if not each.is_there]:
            raise ColumnGone(f"{self._place} has no column {gone[0]} any more; rename it back")
        grants = [grant for each in columns for grant in (each.schema_grant, each.column_grant) if grant]
        if grants:
            wanted = "; ".join(dict.fromkeys(grants))
            raise RightsMissing(f"the worker lacks rights on {self._place}; let its owner run: {wanted}")

    def writing(self, incoming: sql.Identifier) -> sql.Composed:
        """The statement that moves vectors from a temporary table to their rows."""
        return sql.SQL(statement("write_vectors")).format(**self._names, incoming=incoming)
