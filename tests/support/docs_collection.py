"""The collection ``docs`` as the engine is told of it, where no database is."""

from __future__ import annotations

from embedq_worker.store.collection import Collection

DOCS = Collection(
    id=1,
    name="docs",
    table_schema="public",
    table_name="docs",
    model="m",
    dimensions=2,
    vector_type="vector",
    versions="clock",
)
