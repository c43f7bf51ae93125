"""Searching a collection by a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg.rows import class_row

from embedq_sql import statement
from embedq_worker.store.connections import Connection, store_errors


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was found; ``distance`` is the cosine distance, 0 (same direction) to 2."""

    id: str
    chunk: int
    content: str
    metadata: dict[str, Any]
    distance: float


def search(connection: Connection, collection: str, vector: Sequence[float], k: int = 10) -> list[Hit]:
    """The ``k`` rows nearest to ``vector``, nearest first. Raises ``StoreError``."""
    literal = f"[{','.join(map(repr, map(float, vector)))}]"
    wanted = {"collection": collection, "query": literal, "k": k}
    with (
        store_errors(f"collection {collection!r} was not searched"),
        connection.cursor(row_factory=class_row(Hit)) as cursor,
    ):
        return cursor.execute(statement("search"), wanted).fetchall()
