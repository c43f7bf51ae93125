"""The engine's connections to Postgres, and what its errors mean.

* ``DatabaseAway``: the classes of SQLSTATE below, and a connection that was lost or cannot be had. Kept and
  written later.
* ``CollectionGone``: 3F000 and 42P01, the table was dropped. Dead letters.
* ``RowRefused``: all else, such as 22 (data), 23 (constraints), 54 (limits), P0001 (somebody's trigger), or a
  value that the driver cannot send. Bisected, a dead letter: a cause that is not known must not stop the rows
  behind it for ever.

Source of the classes: PostgreSQL's documentation, appendix A.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from embedq_sql import statement
from embedq_worker.errors import CollectionGone, DatabaseAway, RowRefused

Connection = psycopg.AsyncConnection[tuple[object, ...]]

_AWAY = (
    "08",  # connection
    "25",  # state of the transaction: read-only, timed out
    "40",  # serialization, deadlock
    "42501",  # rights that are missing concern the table, not a row
    "53",  # disk, memory, connections
    "55",  # locks
    "57",  # shutdown, timeouts
    "58",  # input and output
    "XX",  # internal
)
_GONE = (errors.UndefinedTable, errors.InvalidSchemaName)


class Database:
    """A small pool; each connection knows which temporary tables it has made."""

    def __init__(self, database_url: str, *, connections: int) -> None:
        self._pool = AsyncConnectionPool(
            database_url,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=10,
            kwargs={"autocommit": True, "application_name": "embedq worker", "connect_timeout": 10},
            configure=_configure,
            check=AsyncConnectionPool.check_connection,
        )
        self._made: WeakKeyDictionary[Connection, set[int]] = WeakKeyDictionary()

    async def open(self) -> None:
        """Start connecting in the background; using a connection waits for it."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=5)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode.

        Raises ``RowRefused``, ``CollectionGone`` or ``DatabaseAway`` for what goes wrong on it.
        """
        try:
            async with self._pool.connection() as connection:
                yield connection
        except PoolTimeout as error:
            raise DatabaseAway("no connection could be had") from error
        except psycopg.Error as error:
            # Without its cause, which a log would print: the server's DETAIL quotes the row, hence the text.
            raise understood(error) from None

    def has_made(self, connection: Connection, collection_id: int) -> bool:
        """Whether this connection has the temporary table of a collection."""
        return collection_id in self._made.get(connection, ())

    def note_made(self, connection: Connection, collection_id: int) -> None:
        """This connection has the temporary table of a collection now."""
        self._made.setdefault(connection, set()).add(collection_id)


async def _configure(connection: Connection) -> None:
    await connection.execute(statement("session"))


def understood(error: psycopg.Error) -> RowRefused | CollectionGone | DatabaseAway:
    """What an error of the driver means; the server's prose, which may quote a text, is left out."""
    state = error.sqlstate
    if isinstance(error, _GONE):
        return CollectionGone(f"the collection's table is gone (SQLSTATE {state})")
    lost = state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if lost or (state is not None and state.startswith(_AWAY)):
        return DatabaseAway(f"{type(error).__name__}, SQLSTATE {state or 'none'}")
    return RowRefused(state or type(error).__name__)
