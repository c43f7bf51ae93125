"""The vector indexes of a collection, as they are in the database."""

from __future__ import annotations

from typing import NamedTuple

from embedq_sql import statement
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.connections import Connection, store_errors


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
    named = {
        "schema": collection.table_schema,
        "table": collection.table_name,
        "column": collection.vector_column,
        "dimensions": collection.dimensions,
    }
    with store_errors(f"the indexes of collection {collection.name!r} were not read"):
        return [VectorIndex(*row) for row in connection.execute(statement("vector_indexes"), named)]


def usable_quantization(connection: Connection, collection: Collection) -> Quantization:
    """What functions should search by: the collection's quantisation once there is an index of it, else the
    vectors themselves, so that without an index every answer is exact. Raises ``StoreError``."""
    held = {index.quantization for index in vector_indexes(connection, collection) if index.valid}
    return collection.quantization if collection.quantization in held else "none"
