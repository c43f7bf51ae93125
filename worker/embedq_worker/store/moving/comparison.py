"""How a collection's searches will change with its other model."""

from __future__ import annotations

from typing import NamedTuple

from psycopg import sql

from embedq_sql import template
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection, store_errors

K = 10


class Overlap(NamedTuple):
    """Of ``rows`` taken by chance: the share of their ``K`` nearest that both models agree on, 0 to 1."""

    share: float
    rows: int


def overlap(connection: Connection, collection: Collection, sample: int) -> Overlap | None:
    """Compare the neighbours of ``sample`` rows by both columns of vectors, through indexes where there are
    any; None where no row has both. Raises ``StoreError``."""
    names = {
        "vector": sql.Identifier(collection.vector_column),
        "shadow": sql.Identifier(collection.as_shadow().vector_column),
    }
    composed = sql.SQL(template("overlap")).format(table=collection.table, **names)
    with store_errors(f"the models of collection {collection.name!r} were not compared"):
        share, rows = connection.execute(composed, {"sample": sample, "k": K}).fetchone() or (None, 0)
    return None if share is None else Overlap(float(share), int(rows))
