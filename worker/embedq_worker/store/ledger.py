"""The item ledger: what is stored of each id, asked before a call is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedq_sql import statement
from embedq_worker.store.database import Database

_LOOK_UP = statement("look_up")


class Known(NamedTuple):
    """What the ledger holds of an id."""

    version: int
    content_hash: bytes
    deleted: bool

    @property
    def order(self) -> tuple[int, bytes]:
        """What orders the writes of one id."""
        return self.version, self.content_hash


async def look_up(database: Database, collection_id: int, ids: Sequence[str]) -> dict[str, Known]:
    """What the ledger holds of ``ids``; ids that it does not know are left out. Raises ``DatabaseAway``."""
    async with database.connection() as connection:
        cursor = connection.cursor(binary=True)
        await cursor.execute(_LOOK_UP, {"collection_id": collection_id, "ids": list(ids)})
        return {str(row[0]): Known._make(row[1:]) for row in await cursor.fetchall()}
