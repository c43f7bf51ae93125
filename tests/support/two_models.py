"""A collection of two rows that two models put in opposite order, for its move from one to the other."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import Connection

OLD = Model(id="old", dimensions=3)
NEW = Model(id="new", dimensions=2, allowed_dimensions=DimensionRange(min=2, max=4000), max_chars_alone=100)


def two_rows(connection: Connection) -> Collection:
    """A collection of two rows, which the two models put in opposite order."""
    made = create_collection(connection, name="docs", model=OLD)
    connection.execute(
        "INSERT INTO docs (id, content, embedding, version)"
        " VALUES ('1', 'a', '[1,0,0]', 1), ('2', 'b', '[0,1,0]', 1)"
    )
    return made


def fill(connection: Connection, collection: Collection) -> None:
    """Give both rows their vectors of the new model."""
    assert collection.shadow is not None
    column = sql.Identifier(collection.shadow.column_name)
    connection.execute(sql.SQL("UPDATE docs SET {} = '[0,1]' WHERE id = '1'").format(column))
    connection.execute(sql.SQL("UPDATE docs SET {} = '[1,0]' WHERE id = '2'").format(column))


def columns(connection: Connection) -> dict[str, tuple[str, bool]]:
    """The columns of vectors: type, and whether they are required."""
    found = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = 'docs'::regclass AND attname LIKE 'embedding%%' AND NOT attisdropped"
    )
    return {name: (kind, required) for name, kind, required in found}


def nearest(
    connection: Connection, query: str, generation: int, function: LiteralString = "docs_search"
) -> str:
    """The id of the nearest row, by a vector of a generation."""
    call = sql.SQL("SELECT id FROM {}(%s::vector, 1, %s)").format(sql.Identifier(function))
    row = connection.execute(call, (query, generation)).fetchone()
    assert row is not None
    return str(row[0])
