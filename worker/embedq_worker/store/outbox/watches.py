"""Watches: which tables collections follow, and how that stands. ``embedq.watch`` in SQL makes them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from psycopg.rows import class_row

from embedq_sql import statement
from embedq_worker.store.postgres.connections import Connection, store_errors

State = Literal["filling", "following", "behind", "triggers off", "source dropped"]
AMISS_STATES: tuple[State, ...] = ("behind", "triggers off", "source dropped")
"""Those in which somebody has to do something."""


class WatchState(msgspec.Struct, frozen=True, kw_only=True):
    """How a collection follows its table; times in the session's zone."""

    collection: str
    source: str
    """The table, with its schema where it needs one."""
    id: str
    """The column with the items' ids."""
    text: str
    """The expression for the texts."""
    metadata: str | None
    state: State
    watched_at: datetime
    filled_rows: int
    """Rows that the backfill has read."""
    filled_at: datetime | None
    """When it had read all; None until then."""
    estimated_rows: int | None
    """Rows of the table as the planner takes it; None where nobody knows."""
    missed_since: datetime | None
    missed_code: str | None
    """The SQLSTATE for which changes were missed."""


def list_watches(connection: Connection) -> list[WatchState]:
    """Every watch, by its collection's name. Raises ``StoreError``."""
    with (
        store_errors("the watches were not read"),
        connection.cursor(row_factory=class_row(WatchState)) as cursor,
    ):
        return cursor.execute(statement("watches")).fetchall()


def add_watch(
    connection: Connection, source: str, *, collection: str, key: str, text: str, metadata: str | None = None
) -> None:
    """Let a collection follow a table, from now on and by a backfill; again: with these expressions.

    Raises ``StoreError`` with what stands in the way.
    """
    wanted = {"source": source, "collection": collection, "id": key, "text": text, "metadata": metadata}
    with store_errors(f"table {source} is not watched"):
        connection.execute(statement("add_watch"), wanted)


def remove_watch(connection: Connection, collection: str) -> None:
    """Let a collection follow no table any more; its rows stay. Raises ``StoreError``."""
    with store_errors(f"collection {collection!r} follows what it followed"):
        connection.execute(statement("remove_watch"), {"collection": collection})
