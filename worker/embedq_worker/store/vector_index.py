"""The vector indexes of a collection, as they are in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from embedq_sql import statement
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.places import places
from embedq_worker.store.postgres.connections import Connection, store_errors


class VectorIndex(NamedTuple):
    """An index on a collection's vectors; one that is not valid is being built or was left behind."""

    name: str
    valid: bool
    options: list[str]
    quantization: Quantization | None
    """What it holds; None for an index that does not serve the collection's searches: by another distance, of
    a part of the rows, or of a part of each vector."""


def vector_indexes(connection: Connection, collection: Collection) -> list[VectorIndex]:
    """The indexes on the collection's vectors, whoever made them. Raises ``StoreError``."""
    return vector_indexes_of(connection, [collection])[0]


def vector_indexes_of(connection: Connection, collections: Sequence[Collection]) -> list[list[VectorIndex]]:
    """The same of each collection, in one statement."""
    found: list[list[VectorIndex]] = [[] for _ in collections]
    with store_errors("the indexes on the collections' vectors were not read"):
        for number, *row in connection.execute(statement("vector_indexes"), places(collections)):
            found[number - 1].append(VectorIndex(*row))
    return found


def usable_quantization(connection: Connection, collection: Collection) -> Quantization:
    """What functions should search by: the collection's quantisation once there is an index of it, else the
    vectors themselves, so that without an index every answer is exact. Raises ``StoreError``."""
    held = {index.quantization for index in vector_indexes(connection, collection) if index.valid}
    return collection.quantization if collection.quantization in held else "none"
