"""What the catalogue and the statistics say of collections' tables, in one statement for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedq_sql import statement
from embedq_worker.store.collection import Collection
from embedq_worker.store.places import places
from embedq_worker.store.postgres.connections import Connection, store_errors


class TableFacts(NamedTuple):
    """Of one collection's table. Sizes in bytes, durations in seconds."""

    is_there: bool
    """With all the columns that the registry names."""
    live_rows: int
    """By the statistics."""
    dead_rows: int
    """Deleted or replaced since the last vacuum."""
    vacuumed_ago: float | None
    statistics_for: float
    """How long scans and dead rows have been counted."""
    shared_buffers: int
    effective_cache_size: int
    is_locked: bool
    """Somebody builds, rebuilds or drops an index of it now."""


def table_facts(connection: Connection, collections: Sequence[Collection]) -> list[TableFacts]:
    """The facts, in the order of the collections. Raises ``StoreError``."""
    with store_errors("the collections' tables were not looked at"):
        rows = connection.execute(statement("table_facts"), places(collections)).fetchall()
    return [TableFacts(*row[1:]) for row in rows]
