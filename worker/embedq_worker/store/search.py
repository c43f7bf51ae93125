"""Searching a collection by a vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from embedq_sql import statement
from embedq_worker.errors import StaleVector, StoreError
from embedq_worker.store.collections import get_collection
from embedq_worker.store.postgres.connections import Connection, store_errors


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was found; ``distance`` is the cosine distance, 0 (same direction) to 2.

    ``content`` and ``metadata`` are None where an own table has none.
    """

    id: str
    chunk: int
    content: str | None
    metadata: Any
    distance: float


def search(
    connection: Connection,
    collection: str,
    vector: Sequence[float],
    k: int = 10,
    *,
    filter: Mapping[str, Any] | None = None,  # noqa: A002 # the word of SQL and of the command
    generation: int | None = None,
) -> list[Hit]:
    """The ``k`` rows nearest to ``vector``, nearest first.

    With a ``filter``, of the rows whose metadata contain it. ``generation`` is the collection's when the
    vector was made: one from another model is refused. Raises ``StaleVector`` then, and ``StoreError``.
    """
    wanted = {
        "collection": collection,
        "query": as_text(vector),
        "k": k,
        "filter": None if filter is None else Jsonb(filter),
        "generation": generation,
    }
    try:
        with (
            store_errors(f"collection {collection!r} was not searched"),
            connection.cursor(row_factory=class_row(Hit)) as cursor,
        ):
            return cursor.execute(statement("search"), wanted).fetchall()
    except StoreError as error:
        if generation in (None, get_collection(connection, collection).generation):
            raise
        raise StaleVector(str(error)) from error


def as_text(vector: Iterable[float]) -> str:
    """A vector as pgvector reads it, with every digit."""
    return f"[{','.join(map(repr, map(float, vector)))}]"
