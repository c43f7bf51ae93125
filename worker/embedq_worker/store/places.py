"""Where collections have their rows and functions, as parameters of statements that look at many at once."""

from __future__ import annotations

from collections.abc import Sequence

from embedq_worker.store.collection import Collection


def places(collections: Sequence[Collection]) -> dict[str, list[object]]:
    """An array a property, in the order of the collections; a statement numbers its rows by it, from 1."""
    return {
        "ids": [each.id for each in collections],
        "schemas": [each.table_schema for each in collections],
        "tables": [each.table_name for each in collections],
        "keys": [each.key_column for each in collections],
        "vectors": [each.vector_column for each in collections],
        "contents": [each.content_column for each in collections],
        "metadata": [each.metadata_column for each in collections],
        "dimensions": [each.dimensions for each in collections],
        "functions": [f"{each.name}_search" for each in collections],
    }
