"""Random vectors in a collection, made by Postgres."""

from __future__ import annotations

from psycopg import sql

from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection


def fill(connection: Connection, collection: Collection, rows: int) -> None:
    """Rows 1, 2, … with random vectors, and fresh statistics."""
    made = sql.SQL(
        "INSERT INTO {table} (id, content, embedding, version)"
        " SELECT i::text, 'text number ' || i,"
        " (SELECT array_agg(random() - 0.5 + 0 * i * j)"
        " FROM generate_series(1, {dimensions}) AS j)::real[]::vector,"
        " 1 FROM generate_series(1, {rows}) AS i"
    )
    connection.execute(made.format(table=collection.table, dimensions=collection.dimensions, rows=rows))
    connection.execute(sql.SQL("ANALYZE {}").format(collection.table))
