"""Dead letters as people look at them: without their texts. The engine writes them (``store.burial``)."""

from __future__ import annotations

from datetime import datetime

import msgspec
from psycopg.rows import kwargs_row

from embedq_sql import statement
from embedq_worker.store.connections import Connection, store_errors


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter; ``cause`` is its class: of this text, of this row, not a job."""

    number: int
    collection: str | None
    item_id: str | None
    version: int | None
    cause: str = msgspec.field(name="class")
    status: int | None
    code: str
    parameter: str | None
    attempts: int
    source: str | None
    lane: str | None
    first_at: datetime
    last_at: datetime


def list_dead_letters(connection: Connection, collection: str | None = None, limit: int = 50) -> list[Listed]:
    """The newest dead letters, newest first, of one collection or of all. Raises ``StoreError``."""
    wanted = {"collection": collection, "limit": limit}
    with (
        store_errors("the dead letters were not read"),
        connection.cursor(row_factory=kwargs_row(_listed)) as cursor,
    ):
        return cursor.execute(statement("dead_letters"), wanted).fetchall()


def count_dead_letters(connection: Connection) -> dict[str | None, int]:
    """How many dead letters each collection has; None stands for messages that named none.

    Raises ``StoreError``.
    """
    with store_errors("the dead letters were not counted"):
        return dict(connection.execute(statement("count_dead_letters")).fetchall())


def _listed(**fields: object) -> Listed:
    return msgspec.convert(fields, Listed)
