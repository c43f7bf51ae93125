"""Holding a collection's table in a transaction of the engine, as it is known."""

from __future__ import annotations

from psycopg import sql

from embedq_sql import statement
from embedq_worker.errors import CollectionGone, CollectionMoved
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.database import Connection


class Held:
    """The table of a collection, to be held first in each transaction that writes to it."""

    def __init__(self, collection: Collection) -> None:
        name = "hold_table" if collection.is_managed else "hold_collection"
        self._layout = collection.layout
        self._named = {"collection_id": collection.id, "name": collection.name}
        self._hold_table = sql.SQL(statement(name)).format(table=collection.table)
        self._registered_layout = statement("registered_layout")

    async def hold(self, connection: Connection) -> None:
        """Keep the table from being dropped, and its columns where they are, until the transaction ends.

        Raises ``CollectionGone`` where it is not this collection's any more, and ``CollectionMoved`` where
        its columns hold other models' vectors than is known. Both questions in one round trip.
        """
        async with connection.pipeline():
            await connection.execute(self._hold_table, self._named)
            cursor = await connection.execute(self._registered_layout, self._named)
        found = await cursor.fetchone()
        if found is None:
            raise CollectionGone("the collection was dropped, and its name may have been given again")
        if found != self._layout:
            raise CollectionMoved("the collection's columns hold other models' vectors than was known")
