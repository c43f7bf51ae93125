"""What a collection's move to another model will take, before it is begun."""

from __future__ import annotations

from math import ceil

import msgspec
from psycopg import sql

from embedq_sql import statement, template
from embedq_worker.catalogue import Model
from embedq_worker.store.collection import Collection, VectorType
from embedq_worker.store.postgres.connections import Connection, store_errors

_BYTES: dict[VectorType, int] = {"vector": 4, "halfvec": 2}


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Of a whole collection; None where nothing is known."""

    rows: int
    tokens: int
    requests: int
    usd: float | None
    """At the list price of the model's provider."""
    minutes: float | None
    """At least, by the model's limits a minute, if it has any, and by the wanted rate."""
    column_bytes: int
    """Of the new column, its index left out, which takes about as much again."""


def estimate(
    connection: Connection,
    collection: Collection,
    model: Model,
    dimensions: int,
    vector_type: VectorType,
    rate: float | None = None,
) -> Estimate:
    """What filling will take. Tokens are those that the texts cost the present model, as the ledger has them;
    of texts whose tokens no service counted, and where none did, by the new model's own rule of thumb.

    ``rate`` in rows a second. Raises ``StoreError``.
    """
    with store_errors(f"the texts of collection {collection.name!r} were not measured"):
        composed = sql.SQL(template("measure_texts")).format(table=collection.table)
        rows, size, _ = connection.execute(composed).fetchone() or (0, 0, 0)
        found = connection.execute(statement("ledger_tokens"), {"collection_id": collection.id}).fetchone()
    items, counted, known = found or (0, 0, 0)
    tokens = ceil(known * items / counted) if counted else ceil(size * model.tokens_per_byte)
    requests = max(ceil(rows / model.inputs), ceil(tokens / model.max_request_tokens))
    price = model.usd_per_million_tokens
    return Estimate(
        rows=rows,
        tokens=tokens,
        requests=requests,
        usd=None if price is None else tokens * price / 1e6,
        minutes=_minutes(model, rows, tokens, requests, rate),
        column_bytes=rows * (dimensions * _BYTES[vector_type] + 8),
    )


def _minutes(model: Model, rows: int, tokens: int, requests: int, rate: float | None) -> float | None:
    least = [
        requests / model.requests_per_minute if model.requests_per_minute else None,
        tokens / model.tokens_per_minute if model.tokens_per_minute else None,
        rows / rate / 60 if rate else None,
    ]
    known = [each for each in least if each is not None]
    return max(known) if known else None
