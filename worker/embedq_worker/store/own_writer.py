"""The writer into somebody's own table: vectors of rows that are there, and nothing else.

Versions, hashes and tombstones are in the ledger, as for any collection. A delete sets the vector to null; an
id that has no row is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from embedq_worker.errors import RowRefused
from embedq_worker.store.collection import Collection
from embedq_worker.store.database import Connection, Database
from embedq_worker.store.own_rows import OwnRows
from embedq_worker.store.rows import Row
from embedq_worker.store.writer import Writer


class OwnWriter(Writer):
    """Writes to one collection in somebody's own table."""

    _writes_again = True  # the row that has the vector may be another by now

    def __init__(self, database: Database, collection: Collection) -> None:
        super().__init__(database, collection)
        self._rows = OwnRows(collection)
        self._write_vectors = self._rows.writing(self._incoming)

    async def touch(self, batch: Sequence[Row]) -> set[str]:
        """Move the versions of items whose vector is stored already, as ``Writer`` does."""
        ordered = sorted(batch, key=lambda row: row.id.encode())
        async with self._database.connection() as connection, connection.transaction():
            await self._held.hold(connection)
            present = await self._rows.have_vectors(connection, [row.id for row in ordered])
            return await self._touch_versions(connection, [row for row in ordered if row.id in present])

    async def _put_parts(self, connection: Connection, batch: Sequence[Row], superseded: set[str]) -> None:
        cursor = await connection.execute(self._write_vectors, {"superseded": list(superseded)})
        written = {str(row[0]) for row in await cursor.fetchall()}
        if missing := {row.id for row in batch if row.parts} - superseded - written:
            raise RowRefused("no_row", missing)
