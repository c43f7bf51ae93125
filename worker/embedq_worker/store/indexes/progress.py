"""How far the build of an index is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedq_sql import statement
from embedq_worker.store.collection import Collection
from embedq_worker.store.places import places
from embedq_worker.store.postgres.connections import Connection, store_errors

_LOADING = "building index: loading tuples"


class Progress(NamedTuple):
    """A build that runs: its phase, as Postgres calls it, and blocks of the table; ``total`` is 0 until it is
    known. ``seconds`` since its statement began."""

    phase: str
    done: int
    total: int
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """How long loading rows will go on at the pace so far, which slows down a little as the graph grows.

        None in the other phases, which are short, or wait for others' transactions.
        """
        if self.phase != _LOADING or not self.done or not self.total:
            return None
        return self.seconds * max(0, self.total - self.done) / self.done


def progress(connection: Connection, pid: int) -> Progress | None:
    """How far the build of the session with that process id is; None when it is not building.

    Raises ``StoreError``.
    """
    with store_errors("the progress was not read"):
        row = connection.execute(statement("index_progress"), {"pid": pid}).fetchone()
    return Progress(*row) if row else None


def progress_of(connection: Connection, collection: Collection) -> Progress | None:
    """How far a build of an index of the collection's table is, whoever runs it. Raises ``StoreError``."""
    return progress_of_each(connection, [collection])[0]


def progress_of_each(connection: Connection, collections: Sequence[Collection]) -> list[Progress | None]:
    """The same of each collection, in one statement."""
    with store_errors("the progress was not read"):
        rows = connection.execute(statement("table_index_progress"), places(collections))
        found = {number: Progress(*row) for number, *row in rows}
    return [found.get(number) for number in range(1, len(collections) + 1)]
