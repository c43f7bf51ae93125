"""One connection for a command, and what goes wrong on it in words that say what to do.

The engine has connections of its own (``store.database``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from embedq.errors import ConfigurationError
from embedq_worker.errors import DatabaseAway, NotMigrated, StoreError

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_SECONDS = 10
"""How long a server is waited for; ``connect_timeout`` in the URL overrides it."""

_NOT_MIGRATED = (
    errors.UndefinedTable,
    errors.UndefinedFunction,
    errors.InvalidSchemaName,
)


def connect(database_url: str) -> Connection:
    """A connection in autocommit mode.

    Raises ``ConfigurationError`` for a URL that cannot be right, ``DatabaseAway`` when there is no connection
    to be had; the password is in neither.
    """
    parts = parse_url(database_url)
    options = {"connect_timeout": CONNECT_SECONDS, "application_name": "embedq", **parts}
    try:
        return psycopg.connect(autocommit=True, **options)
    except psycopg.Error as error:
        server = f"{parts.get('host') or 'the local socket'}, database {parts.get('dbname') or 'of the user'}"
        # Of several lines the first says it: the others are about further addresses of the same host.
        raise DatabaseAway(
            f"no connection to Postgres on {server}: {str(error).partition(chr(10))[0]}; "
            "check EMBEDQ_DATABASE_URL and that the server is up"
        ) from error


def end_interrupted(connection: Connection) -> None:
    """After Ctrl-C: end the statement that may still run, so that the connection can be used again.

    psycopg does so where the interruption meets it waiting for the server, and not where it meets its Python
    code: the statement goes on then, and any other is refused.
    """
    if connection.closed or connection.pgconn.transaction_status != TransactionStatus.ACTIVE:
        return
    connection.cancel_safe(timeout=CONNECT_SECONDS)
    while connection.pgconn.get_result() is not None:
        pass


@contextmanager
def store_errors(undone: str) -> Iterator[None]:
    """Turn the driver's errors into ``StoreError``; ``undone`` begins the message: what did not happen.

    Raises ``NotMigrated``, ``DatabaseAway`` or plain ``StoreError``. For commands, whose statements hold no
    text of items.
    """
    try:
        yield
    except _NOT_MIGRATED as error:
        raise NotMigrated from error
    except errors.UndefinedColumn as error:
        raise StoreError(
            f"{undone}: {_reason(error)}; if it is one of your own table, rename it back or drop the "
            "collection; otherwise the schema is an older one: run `embedq migrate`"
        ) from error
    except psycopg.OperationalError as error:
        raise DatabaseAway(f"{undone}: {_reason(error)}; try again when the database is well") from error
    except psycopg.Error as error:
        raise StoreError(f"{undone}: {_reason(error)} (SQLSTATE {error.sqlstate or 'none'})") from error


def parse_url(database_url: str) -> dict[str, Any]:
    """What a connection URL says, by libpq's names. Raises ``ConfigurationError``."""
    try:
        parts = conninfo_to_dict(database_url)
    except psycopg.ProgrammingError:
        parts = {"host": "@"}
    # A password with an unescaped @ or / ends up in these parts, and from there in libpq's messages.
    misread = any("@" in str(parts.get(part) or "") for part in ("host", "dbname"))
    if misread or not (str(parts.get("port") or "0").replace(",", "").isdigit()):
        raise ConfigurationError(
            "EMBEDQ_DATABASE_URL cannot be read as a connection URL: give it as "
            "postgresql://user:password@host:5432/database, with special characters of the password "
            "percent-encoded (@ is %40, / is %2F, : is %3A)"
        ) from None
    return dict(parts)


def _reason(error: psycopg.Error) -> str:
    said = error.diag.message_primary or str(error).partition("\n")[0] or type(error).__name__
    return f"{said} ({error.diag.message_hint})" if error.diag.message_hint else said
