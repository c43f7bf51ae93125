"""How many rows collections have, and how many of these a vector: counted where few, else estimated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.table_facts import TableFacts, table_facts

COUNTED_ROWS = 100_000
"""Rows up to which they are counted; above it they are estimated."""

_Column = tuple[Collection, str]


class Rows(NamedTuple):
    """The rows of a collection's table. A text of several chunks has several."""

    every: int
    filled: int | None
    """Those with a vector: of a table that embedq made, every one. None: not known of a large own table."""
    is_estimate: bool

    @property
    def stored(self) -> int:
        """Rows with a vector, as far as is known."""
        return self.every if self.filled is None else self.filled


def count_rows(connection: Connection, collection: Collection) -> int | None:
    """Rows with a vector in a collection's table; None if somebody dropped the table or renamed a column.

    Raises ``StoreError``.
    """
    (rows,) = row_counts(connection, [collection], table_facts(connection, [collection]))
    return rows.stored if rows else None


def count_outbox(connection: Connection, collection: Collection) -> int:
    """Items of a collection in the outbox, sent or not. Raises ``StoreError``."""
    with store_errors("the outbox was not counted"):
        found = connection.execute(statement("count_outbox"), {"collection_id": collection.id}).fetchone()
    return int(found[0]) if found else 0


def row_counts(
    connection: Connection, collections: Sequence[Collection], facts: Sequence[TableFacts]
) -> list[Rows | None]:
    """The rows of each collection, None where its table or a column is missing.

    A count that waits for a lock until the session's ``lock_timeout``, or runs into its
    ``statement_timeout``, leaves estimates. Raises ``StoreError``.
    """
    there = [number for number, each in enumerate(facts) if each.is_there]
    small = [number for number in there if facts[number].live_rows <= COUNTED_ROWS]
    with store_errors("the collections' rows were not counted"):
        counted = _run(connection, "count_vectors", [(number, collections[number]) for number in small])
        rows: dict[int, Rows] = {number: Rows(every, filled, False) for number, every, filled in counted}
        large = [number for number in there if number not in rows or rows[number].every > COUNTED_ROWS]
        vectors = [(collections[number], collections[number].vector_column) for number in large]
        for number, share in zip(large, null_shares(connection, vectors), strict=True):
            least = rows[number].every if number in rows else 0
            rows[number] = _estimate(max(least, facts[number].live_rows), share, collections[number])
    return [rows.get(number) for number in range(len(collections))]


def unfilled_counts(
    connection: Connection, moving: Sequence[Collection], facts: Sequence[TableFacts]
) -> list[int]:
    """Rows that lack a vector of the shadow, of collections that have one; large numbers by estimate.

    Raises ``StoreError``.
    """
    columns = [(each, each.shadow.column_name) for each in moving if each.shadow]
    with store_errors("the rows that lack a vector were not counted"):
        counted = _run(connection, "count_some_unfilled", list(enumerate(moving)))
        few = {number: unfilled for number, unfilled in counted if unfilled <= COUNTED_ROWS}
        shares = [1.0] * len(moving) if len(few) == len(moving) else null_shares(connection, columns)
    return [
        few.get(number, max(COUNTED_ROWS, round(each.live_rows * (1.0 if share is None else share))))
        for number, (each, share) in enumerate(zip(facts, shares, strict=True))
    ]


def null_shares(connection: Connection, columns: Sequence[_Column]) -> list[float | None]:
    """The share of rows that have null in each column, by the last ANALYZE. Raises the driver's errors."""
    if not columns:
        return []
    named = {
        "schemas": [collection.table_schema for collection, _ in columns],
        "tables": [collection.table_name for collection, _ in columns],
        "columns": [column for _, column in columns],
    }
    return [share for _, share in connection.execute(statement("null_fractions"), named)]


def _run(
    connection: Connection, name: str, numbered: Sequence[tuple[int, Collection]]
) -> list[tuple[int, ...]]:
    """One statement for all of them; without an answer where it took too long."""
    if not numbered:
        return []
    composed = sql.SQL(" UNION ALL ").join(
        sql.SQL(template(name).rstrip(";\n")).format(
            number=sql.Literal(number),
            table=each.table,
            vectors=sql.Identifier(each.vector_column),
            shadow=sql.Identifier(each.shadow.column_name if each.shadow else ""),
        )
        for number, each in numbered
    )
    try:
        return connection.execute(composed, {"limit": COUNTED_ROWS + 1}).fetchall()
    except (errors.LockNotAvailable, errors.QueryCanceled):
        return []


def _estimate(every: int, null_share: float | None, collection: Collection) -> Rows:
    if collection.is_managed:
        return Rows(every, every, True)
    return Rows(every, None if null_share is None else round(every * (1 - null_share)), True)
