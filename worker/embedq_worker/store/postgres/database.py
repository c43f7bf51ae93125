"""The engine's connections to Postgres.

What their errors mean: ``store.sqlstate``. A connection is checked before it is used, and one to a server
that has become read-only is closed: after a failover the next one finds the new primary.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from embedq_sql import statement
from embedq_worker.errors import DatabaseAway, DatabaseBusy
from embedq_worker.store.postgres.connections import parse_url
from embedq_worker.store.postgres.outage import Outage
from embedq_worker.store.postgres.server_log import keep_texts_out
from embedq_worker.store.postgres.sqlstate import READ_ONLY, understood
from embedq_worker.store.postgres.watched import WatchedConnection

Connection = WatchedConnection

_OPTIONS: dict[str, Any] = {
    "application_name": "embedq worker",
    "connect_timeout": 5,
    # Of several hosts the primary; a standby alone is refused.
    "target_session_attrs": "read-write",
    # A silent host is given up after about 25 s, also while nothing is asked; bytes nobody takes after 20 s.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What the URL does not say otherwise."""
_WAIT = 3.0
"""Seconds that somebody waits for a connection."""
_WAIT_AWAY = 2.0
"""The same while none can be made: each of those who ask has one tried."""
_TRY_FOR = 4.0
"""Seconds of attempts to connect, then the next who asks begins anew: the pool's pauses grow to minutes."""
_SILENT = "the server does not answer"
_LATE = 1.0
"""Seconds that Postgres has for saying itself that a statement took too long."""


class Database:
    """A small pool; each connection knows which temporary tables it has made.

    ``timeout``: seconds of one statement. ``outage`` is what its users tell of their waiting.
    """

    def __init__(self, database_url: str, *, connections: int, timeout: float = 60.0) -> None:
        self.outage = Outage()
        self._timeout = timeout
        self._connections = connections
        self._failure: str | None = None
        """Why the last connection could not be made."""
        self._pool = AsyncConnectionPool(
            connection_class=WatchedConnection,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=_WAIT,
            reconnect_timeout=_TRY_FOR,
            kwargs={**_OPTIONS, **parse_url(database_url), "autocommit": True, "failed": self._note_failure},
            configure=self._configure,
            check=self._check,
        )
        self._made: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()

    async def open(self) -> None:
        """Start connecting in the background; using a connection waits for it."""
        # It warns of each failed attempt, and of what fails after a failure; we say once what to do.
        logging.getLogger("psycopg").setLevel(logging.ERROR)
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=5)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode.

        Raises ``RowRefused``, ``CollectionGone`` or ``DatabaseAway`` for what goes wrong on it.
        """
        connection: Connection | None = None
        try:
            async with self._pool.connection(timeout=_WAIT_AWAY if self._failure else _WAIT) as connection:
                yield connection
        except PoolTimeout:
            raise self._why_none() from None
        except psycopg.Error as error:
            if connection is not None and connection.was_cut:
                raise DatabaseAway(self._overdue()) from None
            # Without its cause, which a log would print: the server's DETAIL quotes the row, hence the text.
            raise understood(error) from None

    def has_made(self, connection: Connection, table: str) -> bool:
        """Whether this connection has a temporary table."""
        return table in self._made.get(connection, ())

    def note_made(self, connection: Connection, table: str) -> None:
        """This connection has a temporary table now."""
        self._made.setdefault(connection, set()).add(table)

    async def _configure(self, connection: Connection) -> None:
        connection.patience = min(self._timeout, _WAIT)
        await connection.execute(statement("session"), {"timeout": f"{self._timeout * 1000:.0f}ms"})
        await keep_texts_out(connection)
        self._failure = None

    async def _check(self, connection: Connection) -> None:
        """Before each use: the server may be gone, or another than it was."""
        connection.patience = min(self._timeout, _WAIT)
        try:
            cursor = await connection.execute(statement("is_read_only"))
        except psycopg.Error as error:
            self._note_failure(_SILENT if connection.was_cut else str(error).partition("\n")[0])
            raise
        connection.patience = self._timeout + _LATE
        if await cursor.fetchone() != ("off",):
            self._failure = READ_ONLY
            await connection.close()
            raise errors.ReadOnlySqlTransaction

    def _note_failure(self, reason: str) -> None:
        self._failure = READ_ONLY if "read-only" in reason else reason

    def _why_none(self) -> DatabaseAway:
        if self._failure == READ_ONLY:
            return DatabaseAway(READ_ONLY)
        if self._failure:
            return DatabaseAway(
                f"no connection to Postgres: {self._failure}; look whether it runs and has connections left "
                "(max_connections), and at EMBEDQ_DATABASE_URL"
            )
        return DatabaseBusy(
            f"all {self._connections} connections to Postgres are in use; look at its load, or raise "
            "[worker] database_connections"
        )

    def _overdue(self) -> str:
        return (
            f"Postgres did not answer within {self._timeout:g} s, the connection is given up; look at the "
            "network and at its load, or raise [worker] database_timeout"
        )
