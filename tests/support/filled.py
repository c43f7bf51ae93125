"""Collections with given vectors, of each kind that functions in SQL must be right for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings
from psycopg import sql

from embedq_sql import statement
from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.store.collection import Collection, VectorType
from embedq_worker.store.collections import create_collection
from embedq_worker.store.functions import make_functions
from embedq_worker.store.postgres.connections import Connection

MODEL = Model(id="small", dimensions=3, allowed_dimensions=DimensionRange(min=1, max=4000))


class Kind(NamedTuple):
    """What a collection's table is like."""

    vector_type: VectorType
    is_own: bool = False
    is_bare: bool = False
    """An own table with neither texts nor metadata."""

    def __str__(self) -> str:
        """For the names of tests."""
        return f"{self.vector_type}{'-own' if self.is_own else ''}"


VECTOR = Kind("vector")
KINDS = (VECTOR, Kind("halfvec"), Kind("vector", is_own=True), Kind("halfvec", is_own=True))


FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""For property tests whose examples are a few statements each on one connection."""


class Stored(NamedTuple):
    """A row; of an own table the chunk is 0."""

    id: str
    vector: Sequence[float] | npt.NDArray[Any]
    metadata: dict[str, Any] | None = None
    chunk: int = 0


def make(connection: Connection, kind: Kind, dimensions: int, name: str = "docs") -> Collection:
    """An empty collection of that kind; an own table has an integer for its key, and odd columns."""
    if kind.is_own:
        return _make_own(connection, kind, dimensions, name)
    return create_collection(
        connection, name=name, model=MODEL, dimensions=dimensions, vector_type=kind.vector_type
    )


def fill(connection: Connection, collection: Collection, rows: Iterable[Stored]) -> None:
    """Add rows, past the ledger; the version is 1."""
    columns = [name for name, _ in _values(collection, Stored("", []))]
    copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
        collection.table, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor().copy(copy) as stream:
        for row in rows:
            stream.write_row([value for _, value in _values(collection, row)])
    connection.execute(sql.SQL("ANALYZE {}").format(collection.table))


def rayed(connection: Connection, collection: Collection, *degrees: int) -> None:
    """Add rows of three dimensions whose ids are their angles."""
    fill(connection, collection, [Stored(str(each), angle(each)) for each in degrees])


def angle(degrees: float) -> list[float]:
    """A vector in the plane of the first two axes of three."""
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees))), 0.0]


def rows(connection: Connection, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What a query of the tests says, with ``%s`` for parameters."""
    return connection.execute(sql.SQL(query), parameters).fetchall()


def literal(vector: Sequence[float] | npt.NDArray[Any]) -> str:
    """A vector as Postgres reads it."""
    return f"[{','.join(repr(float(each)) for each in vector)}]"


def vectors(rng: np.random.Generator, rows: int, dimensions: int) -> npt.NDArray[np.float64]:
    """Random ones, the same in half precision."""
    return rng.normal(size=(rows, dimensions)).astype(np.float16).astype(np.float64)


def _values(collection: Collection, row: Stored) -> list[tuple[str, object]]:
    """The columns that the table has, with what the row says."""
    every = [
        (collection.key_column, row.id),
        (collection.vector_column, literal(row.vector)),
        (collection.content_column, f"text {row.id}"),
        (collection.metadata_column, json.dumps(row.metadata or {})),
        ("chunk" if collection.is_managed else None, row.chunk),
        ("version" if collection.is_managed else None, 1),
    ]
    return [(name, value) for name, value in every if name is not None]


def _make_own(connection: Connection, kind: Kind, dimensions: int, name: str) -> Collection:
    table = sql.SQL(
        'CREATE TABLE "{0}\'s" ("No" bigint PRIMARY KEY, said text, facts jsonb, "where" {1}({2}),'
        # Named as arguments of the functions.
        " query {1}({2}), k integer DEFAULT 1, filter jsonb DEFAULT '[1]', ids text[] DEFAULT '{{}}',"
        " liked text[] DEFAULT '{{}}', disliked text[] DEFAULT '{{}}', label_key text DEFAULT 'none',"
        " candidates integer DEFAULT 1, lambda real DEFAULT 2, generation integer DEFAULT 7,"
        " clustering text DEFAULT 'none', distance text DEFAULT 'far', label text DEFAULT 'none')"
    ).format(sql.SQL(name), sql.SQL(kind.vector_type), sql.Literal(dimensions))
    connection.execute(table)
    own = Collection(
        id=0,
        name=name,
        table_schema="public",
        table_name=f"{name}'s",
        model=MODEL.id,
        dimensions=dimensions,
        vector_type=kind.vector_type,
        versions="given",
        is_managed=False,
        key_column="No",
        key_type="bigint",
        vector_column="where",
        content_column=None if kind.is_bare else "said",
        metadata_column=None if kind.is_bare else "facts",
    )
    fields = msgspec.structs.asdict(own)
    ((number, _),) = connection.execute(statement("register_collection"), fields).fetchall()
    made = msgspec.structs.replace(own, id=number)
    make_functions(connection, made)
    return made
