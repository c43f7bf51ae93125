"""Snapshots that are older than a fill: whoever reads by one sees its rows without their vectors."""

from __future__ import annotations

import time

from embedq_sql import statement
from embedq_worker.errors import CollectionBusy
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection

PATIENCE = 30.0
"""Seconds that older snapshots are waited for."""
_LOOK_EVERY = 0.1


def wait_for_snapshots(connection: Connection, collection: Collection) -> None:
    """Wait until every session of the database sees what is committed now.

    A transaction of isolation level REPEATABLE READ that began before the fill would find no vectors after a
    switch, and searches empty. Raises ``CollectionBusy``, which names the session.
    """
    transaction, before = connection.execute(statement("next_transaction")).fetchone() or (None, None)
    named = {"transaction": transaction, "before": before}
    until = time.monotonic() + PATIENCE
    while older := connection.execute(statement("older_snapshot"), named).fetchone():
        if time.monotonic() > until:
            pid, user, application, state = older
            raise CollectionBusy(
                f"collection {collection.name!r} was not switched: session {pid} of {user} ({application}, "
                f"{state}) reads by a snapshot that is older than the last vectors, and would find rows "
                f"without; wait for it or end it (SELECT pg_terminate_backend({pid})), and try again"
            )
        time.sleep(_LOOK_EVERY)
