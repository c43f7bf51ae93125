"""What an error of Postgres means, by its SQLSTATE.

* ``DatabaseAway``: the classes below, and a connection that was lost. Kept and written later.
* ``RightsMissing``: 42501. Kept and written later, while what needs other rights goes on.
* ``CollectionGone``: 3F000 and 42P01, the table was dropped. Dead letters.
* ``RowRefused``: all else, such as 22 (data), 23 (constraints), 54 (limits), P0001 (somebody's trigger), or a
  value that the driver cannot send. Bisected, a dead letter: a cause that is not known must not stop the rows
  behind it for ever.

Source of the classes: PostgreSQL's documentation, appendix A.
"""

from __future__ import annotations

import psycopg
from psycopg import errors

from embedq_worker.errors import CollectionGone, DatabaseAway, DatabaseBusy, RightsMissing, RowRefused

READ_ONLY = (
    "the database is read-only: a standby, a primary that was replaced, or default_transaction_read_only "
    "is on; make it writable, or let EMBEDQ_DATABASE_URL lead to the primary"
)
_AWAY = {
    "53100": "the disk of Postgres is full; make room on it",
    "53200": "Postgres is out of memory; give it more, or lower work_mem and max_connections",
    "53300": "Postgres has no connection left; raise max_connections, or lower [worker] database_connections",
    "53": "Postgres is out of resources; look at its log",
    "25006": READ_ONLY,
    "25": "the transaction was ended by a timeout; look at the load of Postgres and at its idle timeouts",
    "57014": "a statement took too long; look at the load of Postgres, or raise [worker] database_timeout",
    "57": "Postgres is stopping or starting; look whether it comes back",
    "58": "Postgres cannot read or write its files; look at its log and its disk",
    "08": "the connection to Postgres was lost; look at the network, and whether the server runs",
    "XX": "Postgres has an internal error; look at its log",
}
"""By SQLSTATE, or by class; the longest match counts. What happened, and what to do."""
_BUSY = {
    "40": "other transactions were in the way; it is tried again",
    "55": "another transaction holds a lock on the table or on a row; end what holds it (pg_locks, "
    "pg_stat_activity)",
}
_NO_RIGHT = (
    "rights are missing, or a policy of row-level security is in the way; run SELECT "
    "embedq.grant_worker('<the role of EMBEDQ_DATABASE_URL>') as the owner of the schema embedq"
)
_LOST = "the connection to Postgres was lost; look at the network, and whether the server runs"
_GONE = (errors.UndefinedTable, errors.InvalidSchemaName)


def understood(error: psycopg.Error) -> RowRefused | CollectionGone | DatabaseAway:
    """What an error of the driver means; the server's prose, which may quote a text, is left out."""
    state = error.sqlstate
    if isinstance(error, _GONE):
        return CollectionGone(f"the collection's table is gone (SQLSTATE {state})")
    if isinstance(error, errors.InsufficientPrivilege):
        return RightsMissing(f"{_NO_RIGHT} (SQLSTATE {state})")
    if state is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return DatabaseAway(_LOST) if lost else RowRefused(type(error).__name__)
    if state[:2] in _BUSY:
        return DatabaseBusy(f"{_BUSY[state[:2]]} (SQLSTATE {state})")
    said = _AWAY.get(state) or _AWAY.get(state[:2])
    return DatabaseAway(f"{said} (SQLSTATE {state})") if said else RowRefused(state)
