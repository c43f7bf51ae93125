"""What of each collection is in the outbox, for who looks how things stand: counted up to a bound."""

from __future__ import annotations

from typing import NamedTuple

from psycopg.rows import tuple_row

from embedq_sql import statement
from embedq_worker.store.outbox.unsettled import COUNTED
from embedq_worker.store.postgres.connections import Connection, store_errors


class OutboxPending(NamedTuple):
    """Of one collection."""

    rows: int
    """Not settled yet, sent or not; ``COUNTED`` means so many or more."""
    oldest: float | None
    """Seconds for which the oldest unsent row waits; None: all is sent."""


def outbox_pending(connection: Connection) -> dict[str, OutboxPending]:
    """By the collections' names, in one statement. Raises ``StoreError``."""
    with store_errors("the outbox was not counted"), connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(statement("count_some_pending"), {"most": COUNTED})
        return {name: OutboxPending(rows, oldest) for name, rows, oldest in cursor.fetchall()}
