"""The item ledger: what is stored of each id, asked before a call is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedq_sql import statement
from embedq_worker.store.collection import Collection
from embedq_worker.store.own_table.rows import OwnRows
from embedq_worker.store.postgres.database import Connection, Database

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


class Found(NamedTuple):
    """What is stored of some ids, as far as the ledger knows them."""

    known: dict[str, Known]
    rowless: frozenset[str] = frozenset()
    """Ids without a row in somebody's own table: their vectors could not be written."""


async def look_up(database: Database, collection: Collection, ids: Sequence[str]) -> Found:
    """What is stored of ``ids``.

    Raises ``DatabaseAway``, and of somebody's own table that cannot be written ``CollectionGone``,
    ``ColumnGone`` or ``RightsMissing``.
    """
    async with database.connection() as connection:
        if not collection.is_managed:
            return await _look_up_own(connection, collection, ids)
        return Found(await _ask_ledger(connection, collection, ids))


async def _look_up_own(connection: Connection, collection: Collection, ids: Sequence[str]) -> Found:
    rows = OwnRows(collection)
    await rows.check(connection)
    known = await _ask_ledger(connection, collection, ids)
    stored = await rows.look_up(connection, ids)
    now = {item_id: each._replace(has_vector=stored.get(item_id, False)) for item_id, each in known.items()}
    return Found(now, frozenset(ids) - stored.keys())


async def _ask_ledger(connection: Connection, collection: Collection, ids: Sequence[str]) -> dict[str, Known]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(_LOOK_UP, {"collection_id": collection.id, "ids": list(ids)})
    return {str(row[0]): Known._make((*row[1:], True)) for row in await cursor.fetchall()}
