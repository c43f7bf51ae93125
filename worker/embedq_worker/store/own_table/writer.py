"""The writer into somebody's own table: vectors of rows that are there, and nothing else.

Versions, hashes and tombstones are in the ledger, as for any collection. A delete sets the vector to null; an
id that has no row is refused. A row that somebody's transaction has locked is waited for once, for as long as
a lock is waited for; then it is named, so that the rows beside it are written.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import Error, errors

from embedq_worker.errors import NO_ROW, RowRefused, RowsLocked
from embedq_worker.store.collection import Collection
from embedq_worker.store.own_table.rows import OwnRows
from embedq_worker.store.postgres.database import Connection, Database
from embedq_worker.store.postgres.sqlstate import understood
from embedq_worker.store.rows import Row
from embedq_worker.store.writer import Writer

_EXPLAINED = (errors.InsufficientPrivilege, errors.UndefinedColumn, errors.LockNotAvailable)
"""What may have other causes than it says: a policy, a trigger's function, one row of many."""


class _Stopped(Exception):
    """The vectors could not be written; why is asked once the transaction is over."""

    def __init__(self, error: Error) -> None:
        super().__init__()
        self.error = error


class OwnWriter(Writer):
    """Writes to one collection in somebody's own table."""

    _writes_again = True  # the row that has the vector may be another by now

    def __init__(self, database: Database, collection: Collection) -> None:
        super().__init__(database, collection)
        self._rows = OwnRows(collection)
        self._write_vectors = self._rows.writing(self._incoming)
        self._place = f"{collection.table_schema}.{collection.table_name}"
        self._were_locked: set[str] = set()
        """Ids of rows that were waited for in vain."""

    async def write(self, batch: Sequence[Row]) -> set[str]:
        """Store or delete as ``Writer`` does; raises ``RowsLocked`` and ``RightsMissing``, too."""
        ids = {row.id for row in batch}
        if suspects := ids & self._were_locked:
            await self._name_locked(suspects)
        try:
            return await super().write(batch)
        except _Stopped as stopped:
            raise await self._cause(stopped.error, ids) from None

    async def _cause(self, error: Error, ids: set[str]) -> Exception:
        """What stopped a transaction, asked of the catalogue and the rows."""
        async with self._database.connection() as connection:
            await self._rows.check(connection)
        if isinstance(error, errors.LockNotAvailable):
            await self._name_locked(ids)
        # The rights are there: a policy of row-level security refuses a row.
        refused = isinstance(error, errors.InsufficientPrivilege)
        return RowRefused(error.sqlstate or "") if refused else understood(error)

    async def _name_locked(self, ids: set[str]) -> None:
        async with self._database.connection() as connection:
            locked = await self._rows.locked(connection, ids)
        self._were_locked = self._were_locked - ids | locked
        if locked:
            raise RowsLocked(self._place, locked)

    async def touch(self, batch: Sequence[Row]) -> set[str]:
        """Move the versions of items whose vector is stored already, as ``Writer`` does."""
        ordered = sorted(batch, key=lambda row: row.id.encode())
        async with self._database.connection() as connection, connection.transaction():
            await self._held.hold(connection)
            stored = await self._rows.look_up(connection, [row.id for row in ordered])
            kept = [row for row in ordered if stored.get(row.id)]
            touched = await self._touch_versions(connection, kept)
            await self._settle_outbox(connection, [row for row in kept if row.id in touched])
            return touched

    async def _put_parts(self, connection: Connection, batch: Sequence[Row], superseded: set[str]) -> None:
        try:
            cursor = await connection.execute(self._write_vectors, {"superseded": list(superseded)})
        except _EXPLAINED as error:
            raise _Stopped(error) from None
        written = {str(row[0]) for row in await cursor.fetchall()}
        if missing := {row.id for row in batch if row.parts} - superseded - written:
            raise RowRefused(NO_ROW, missing)
