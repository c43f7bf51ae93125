"""The item ledger: what is stored of each id, asked before a call is paid for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg import errors

from embedq_sql import statement
from embedq_worker.store.collection import Collection
from embedq_worker.store.database import Connection, Database
from embedq_worker.store.own_rows import OwnRows

_LOOK_UP = statement("look_up")


class Known(NamedTuple):
    """What the ledger holds of an id."""

    version: int
    content_hash: bytes
    deleted: bool
    has_vector: bool
    """Whether the vector is still there: a row of somebody's own table may have been replaced."""

    @property
    def order(self) -> tuple[int, bytes]:
        """What orders the writes of one id."""
        return self.version, self.content_hash


async def look_up(database: Database, collection: Collection, ids: Sequence[str]) -> dict[str, Known]:
    """What the ledger holds of ``ids``; ids that it does not know are left out. Raises ``DatabaseAway``."""
    async with database.connection() as connection:
        cursor = connection.cursor(binary=True)
        await cursor.execute(_LOOK_UP, {"collection_id": collection.id, "ids": list(ids)})
        known = {str(row[0]): Known._make((*row[1:], True)) for row in await cursor.fetchall()}
        if collection.is_managed:
            return known
        present = await _present(connection, collection, known)
    return {item_id: each._replace(has_vector=item_id in present) for item_id, each in known.items()}


async def _present(connection: Connection, collection: Collection, ids: Iterable[str]) -> set[str]:
    try:
        return await OwnRows(collection).have_vectors(connection, ids)
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName):
        return set()  # writing tells what is gone
