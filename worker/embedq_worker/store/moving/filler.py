"""The filler: vectors of the model that a collection moves to, for rows that were there before.

A vector is stored where the text that it was made of still stands, and still lacks it: to fill a row twice,
late, or beside a writer, does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg import sql

from embedq_sql import statement
from embedq_worker.store import rows
from embedq_worker.store.collection import Collection
from embedq_worker.store.held import Held
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.rows import Filled
from embedq_worker.store.writer import vector_type


class Unfilled(NamedTuple):
    """A row that lacks a vector, and its text."""

    id: str
    chunk: int
    content: str
    version: int


class Filler:
    """Fills the shadow of one collection, which must have one."""

    def __init__(self, database: Database, collection: Collection) -> None:
        shadow = collection.as_shadow()
        self.generation = shadow.generation
        """Whose vectors it stores."""
        self._database = database
        self._vector_type = shadow.vector_type
        self._held = Held(collection)
        self._landing = f"embedq_filling_{collection.id}_{shadow.generation}"
        names = {
            "table": collection.table,
            "shadow": sql.Identifier(shadow.vector_column),
            "landing": sql.Identifier("pg_temp", self._landing),
            "vector": vector_type(shadow),
        }
        made = {**names, "landing": sql.Identifier(self._landing)}
        self._make = sql.SQL(statement("make_filling")).format(**made)
        self._unfilled = sql.SQL(statement("unfilled_rows")).format(**names)
        self._copy = sql.SQL(statement("copy_filling")).format(**names)
        self._fill = sql.SQL(statement("fill_rows")).format(**names)

    async def read(self, ids: Sequence[str]) -> list[Unfilled]:
        """The rows of these ids that lack their vectors.

        Raises ``CollectionGone``, ``CollectionMoved`` and ``DatabaseAway``.
        """
        async with self._database.connection() as connection, connection.transaction():
            await self._held.hold(connection)
            cursor = await connection.execute(self._unfilled, {"ids": list(ids)})
            return [Unfilled._make(row) for row in await cursor.fetchall()]

    async def fill(self, batch: Sequence[Filled]) -> None:
        """Store vectors, each where it is still wanted. Raises as ``read``, and ``RowRefused``."""
        stream = rows.encode_filled(batch, self._vector_type)
        async with self._database.connection() as connection:
            if not self._database.has_made(connection, self._landing):
                await connection.execute(self._make)
                self._database.note_made(connection, self._landing)
            async with connection.transaction():
                await self._held.hold(connection)
                cursor = connection.cursor()
                async with cursor.copy(self._copy) as copy:
                    await copy.write(stream)
                await cursor.execute(self._fill)
