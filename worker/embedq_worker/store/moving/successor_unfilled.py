"""Rows that lack a vector of the model that a collection moves to, or has moved from.

An index of these rows alone finds them without reading the others. There is one on each of the two columns of
vectors, as a switch makes the other one ask; that on the collection's own column is of no rows at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import LiteralString

from psycopg import sql

from embedq_sql import statement, template
from embedq_worker.errors import CollectionConflict, RowsUnfilled
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection, store_errors


def index_unfilled(
    connection: Connection, collection: Collection, building: Callable[[], None] = lambda: None
) -> None:
    """Index the rows that lack a vector of the shadow's model, where an interrupted start has not.

    One on each column of vectors: after a switch the other one is asked for. ``building`` is called before
    one is built, which waits for transactions that are older. Raises ``StoreError``.
    """
    with store_errors(f"the rows of collection {collection.name!r} were not indexed"):
        for index, column in _missing_indexes(connection, collection).items():
            building()
            qualified = sql.Identifier(collection.table_schema, index)
            connection.execute(sql.SQL(template("drop_index")).format(index=qualified))
            names = {"index": sql.Identifier(index), "shadow": sql.Identifier(column)}
            connection.execute(sql.SQL(template("index_unfilled")).format(table=collection.table, **names))


def count_unfilled(connection: Connection, collection: Collection) -> int:
    """Rows that have no vector of the shadow's model. Raises ``StoreError``."""
    with store_errors(f"the rows of collection {collection.name!r} were not counted"):
        (count,) = connection.execute(_on_shadow("count_unfilled", collection)).fetchone() or (0,)
    return int(count)


def refuse_unfilled(connection: Connection, collection: Collection) -> None:
    """Raise ``RowsUnfilled`` where rows lack a vector of the shadow's model; ``StoreError``."""
    with store_errors(f"the rows of collection {collection.name!r} were not counted"):
        (has_unfilled,) = connection.execute(_on_shadow("has_unfilled", collection)).fetchone() or (False,)
    if has_unfilled:
        assert collection.shadow is not None
        raise RowsUnfilled(
            f"collection {collection.name!r} was not switched: rows have no vector of "
            f"{collection.shadow.model} yet; run `embedq collection migrate {collection.name}`"
        )


def refuse_unindexed(connection: Connection, collection: Collection) -> None:
    """Raise ``CollectionConflict`` where an index is missing: without it the rows that lack a vector would be
    looked for while the table is held alone."""
    if _missing_indexes(connection, collection):
        raise CollectionConflict(
            f"collection {collection.name!r} was not switched: the index of the rows to fill is missing; run "
            f"`embedq collection migrate {collection.name}` first"
        )


def unfilled_index(collection: Collection) -> str:
    """The name of the index of the rows that lack a vector of the shadow's model."""
    return f"{collection.name}_unfilled_idx"


def filled_index(collection: Collection) -> str:
    """The same for the collection's own model: of no rows at all."""
    return f"{collection.name}_filled_idx"


def _missing_indexes(connection: Connection, collection: Collection) -> dict[str, str]:
    """Those of ``index_unfilled`` that are not there, or not valid, with their columns."""
    assert collection.shadow is not None
    columns = {
        unfilled_index(collection): collection.shadow.column_name,
        filled_index(collection): collection.vector_column,
    }
    missing: dict[str, str] = {}
    for index, column in columns.items():
        named = {"schema": collection.table_schema, "name": index}
        if connection.execute(statement("is_valid_index"), named).fetchone() != (True,):
            missing[index] = column
    return missing


def _on_shadow(name: LiteralString, collection: Collection) -> sql.Composed:
    column = sql.Identifier(collection.as_shadow().vector_column)
    return sql.SQL(template(name)).format(table=collection.table, shadow=column)
