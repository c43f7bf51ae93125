"""Rows of somebody's own table, found by an item's id; of them embedq writes the vectors alone."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from embedq_sql import statement
from embedq_worker.store.collection import Collection
from embedq_worker.store.database import Connection


class OwnRows:
    """The rows of one collection. All methods raise the driver's errors."""

    def __init__(self, collection: Collection) -> None:
        self._names = {
            "table": collection.table,
            "key_column": sql.Identifier(collection.key_column),
            "key_type": sql.SQL(collection.key_type),  # Postgres has named it
            "vectors": sql.Identifier(collection.vector_column),
        }
        self._have_vectors = sql.SQL(statement("have_vectors")).format(**self._names)

    async def have_vectors(self, connection: Connection, ids: Iterable[str]) -> set[str]:
        """Those of these ids whose row has a vector."""
        cursor = await connection.execute(self._have_vectors, {"ids": list(ids)})
        return {str(row[0]) for row in await cursor.fetchall()}

    def writing(self, incoming: sql.Identifier) -> sql.Composed:
        """The statement that moves vectors from a temporary table to their rows."""
        return sql.SQL(statement("write_vectors")).format(**self._names, incoming=incoming)
