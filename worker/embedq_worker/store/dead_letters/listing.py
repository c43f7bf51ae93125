"""Dead letters as people look at them: listed and counted without their texts, and dropped with them.

The engine writes them (``store.burial``); ``store.replay`` puts them back on their queues.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from psycopg.rows import kwargs_row

from embedq_sql import statement
from embedq_worker.store.postgres.connections import Connection, store_errors

if TYPE_CHECKING:  # commands start sooner without the workers' pool
    from embedq_worker.store.postgres.database import Database

COUNTED = 1_000
"""Dead letters of one collection that are counted where it has to be quick: from there on it is "or more"."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant: those that pass every filter; a filter of None lets all pass."""

    collection: str | None = None
    numbers: tuple[int, ...] | None = None
    cause: str | None = None
    """The class: ``text``, ``row``, ``successor``, ``not_a_job`` or ``killer``."""
    code: str | None = None

    def parameters(self) -> dict[str, object]:
        """The filters as the statements name them."""
        numbers = None if self.numbers is None else list(self.numbers)
        return {"collection": self.collection, "class": self.cause, "code": self.code, "numbers": numbers}


ALL = Choice()


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
    has_text: bool
    """Whether it can still be replayed: after a while its text is removed."""


def list_dead_letters(connection: Connection, choice: Choice = ALL, limit: int = 50) -> list[Listed]:
    """The newest of the chosen dead letters, newest first. Raises ``StoreError``."""
    with (
        store_errors("the dead letters were not read"),
        connection.cursor(row_factory=kwargs_row(_listed)) as cursor,
    ):
        return cursor.execute(statement("dead_letters"), {**choice.parameters(), "limit": limit}).fetchall()


def count_dead_letters(connection: Connection) -> dict[str | None, int]:
    """How many dead letters each collection has; None stands for messages that named none.

    Raises ``StoreError``.
    """
    with store_errors("the dead letters were not counted"):
        return dict(connection.execute(statement("count_dead_letters")).fetchall())


async def count_some_dead_letters(database: Database) -> dict[str | None, int]:
    """Likewise, but of each collection at most ``COUNTED``: millions of letters take no longer.

    Raises ``StoreError``.
    """
    async with database.connection() as connection:
        cursor = await connection.execute(statement("count_some_dead_letters"), {"most": COUNTED})
        return dict(msgspec.convert(await cursor.fetchall(), list[tuple[str | None, int]]))


def count_chosen(connection: Connection, choice: Choice) -> tuple[int, int]:
    """How many dead letters are chosen, and the highest number that any has now. Raises ``StoreError``."""
    with store_errors("the dead letters were not counted"):
        found = connection.execute(statement("count_chosen_letters"), choice.parameters()).fetchone()
    count, last = found or (0, 0)
    return count, last


def drop_dead_letters(connection: Connection, choice: Choice, last: int) -> int:
    """Delete the chosen dead letters up to the number ``last``, with their texts; returns how many.

    Raises ``StoreError``; nothing is deleted then.
    """
    with store_errors("no dead letter was dropped"):
        wanted = {**choice.parameters(), "last": last}
        return connection.execute(statement("drop_letters"), wanted).rowcount


def _listed(**fields: object) -> Listed:
    return msgspec.convert(fields, Listed)
