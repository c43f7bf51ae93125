"""The functions of a collection: `docs_search` and its like, made from ``templates/functions``.

They are generated, one set a collection, so that each is as plain as the query written out by hand: the
planner inlines it and sees the index. A function is known as embedq's by the beginning of its comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, LiteralString, NamedTuple

import msgspec
from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.places import places
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.quantization import ordering
from embedq_worker.store.vector_index import usable_quantization

Column = Literal["content_column", "metadata_column"]

FUNCTIONS: dict[str, tuple[Column, ...]] = {
    "generation": (),
    "search": (),
    "search_where": ("metadata_column",),
    "search_page": (),
    "search_many": (),
    "similar": (),
    "documents": (),
    "hybrid": ("content_column",),
    "recommend": (),
    "anomalies": (),
    "outliers": (),
    "diversity": (),
    "diverse": (),
    "classify": ("metadata_column",),
    "classify_rows": ("metadata_column",),
    "clusters": (),
}
"""Templates, and which columns they need that an own table may not have.

Each makes the function ``<collection>_<name>``, at most 15 characters with its underscore.
"""


class _Made(NamedTuple):
    signature: str
    name: str
    is_ours: bool
    made_by: str


def make_functions(
    connection: Connection, collection: Collection, quantization: Quantization | None = None
) -> None:
    """Make a collection's functions, or make them anew, in the transaction under way.

    They search by an index of that ``quantization``; left out, by the collection's quantised index once there
    is one: make them anew after a change of it. A function whose arguments have changed replaces the old one.
    A template whose result or names of arguments change needs a migration that drops the old function. Raises
    ``CollectionConflict``, also where a function of such a name is not embedq's, and the driver's errors.
    """
    _check_names(collection)
    before = _made(connection, collection)
    foreign = [each.signature for each in before if not each.is_ours]
    if foreign:
        raise CollectionConflict(
            f"the functions of collection {collection.name!r} were not made: the name of {foreign[0]} is "
            "taken; drop that function, or choose another name for the collection"
        )
    if quantization is None:
        quantization = usable_quantization(connection, collection)
    path = _search_path(connection)
    for name, needed in FUNCTIONS.items():
        if all(getattr(collection, column) is not None for column in needed):
            connection.execute(_compose(name, collection, path, quantization))
    for stale in set(before) & set(
        _made(connection, collection)
    ):  # what was replaced is another version by now
        _drop(connection, collection, stale)
    connection.execute(statement("grant_callers"), {"collection": collection.name})


def searched_by(connection: Connection, collection: Collection) -> Quantization:
    """What the functions search by as they are now, whether or not there is such an index; none where there
    are no functions. Raises the driver's errors."""
    return searched_by_each(connection, [collection])[0]


def searched_by_each(connection: Connection, collections: Sequence[Collection]) -> list[Quantization]:
    """The same of each collection, in one statement."""
    rows = connection.execute(statement("searched_by"), places(collections))
    return [msgspec.convert(by, Quantization) for _, by in rows]


def drop_functions(connection: Connection, collection: Collection) -> None:
    """Drop a collection's functions in the transaction under way. Raises the driver's errors."""
    for each in _made(connection, collection):
        if each.is_ours:
            connection.execute(_dropping(each))


def function_name(collection: Collection, name: str) -> sql.Identifier:
    """The qualified name of one of its functions."""
    return sql.Identifier(collection.table_schema, f"{collection.name}_{name}")


def _check_names(collection: Collection) -> None:
    """Nothing in a body may end it: the bodies of some functions stand between two ``$$``."""
    names = [value for value in msgspec.structs.asdict(collection).values() if isinstance(value, str)]
    ending = [name for name in names if "$$" in name]
    if ending:
        raise CollectionConflict(
            f"the functions of collection {collection.name!r} were not made: {ending[0]!r} has $$ in it; "
            "rename that table, column or schema"
        )


def _made(connection: Connection, collection: Collection) -> list[_Made]:
    named = {"schema": collection.table_schema, "names": [f"{collection.name}_{name}" for name in FUNCTIONS]}
    return [_Made(*row) for row in connection.execute(statement("functions_named"), named)]


def _drop(connection: Connection, collection: Collection, stale: _Made) -> None:
    try:
        connection.execute(_dropping(stale))
    except errors.DependentObjectsStillExist as error:
        raise CollectionConflict(
            f"the functions of collection {collection.name!r} were not made: views or functions were built "
            f"on {stale.signature}, which has other arguments by now; drop them first"
        ) from error


def _dropping(each: _Made) -> sql.Composed:
    # The server has quoted it: format('%I') and its own list of types.
    return sql.SQL(template("drop_function")).format(signature=sql.SQL(each.signature))


def _search_path(connection: Connection) -> sql.Literal:
    """What functions set whose body is parsed when it runs: Postgres' own names and pgvector's."""
    (path,) = connection.execute(statement("functions_path")).fetchone() or ("pg_catalog",)
    return sql.Literal(path)


def _compose(
    name: str, collection: Collection, path: sql.Literal, quantization: Quantization
) -> sql.Composed:
    plain_name = f"{collection.name}_{name}"
    by_index = ordering(collection, quantization, plain_name)
    return sql.SQL(template(f"functions/{name}")).format(
        function=function_name(collection, name),
        query=sql.Identifier(plain_name, "query"),
        k=sql.Identifier(plain_name, "k"),
        generation=sql.Identifier(plain_name, "generation"),
        filter=sql.Identifier(plain_name, "filter"),
        clustering=sql.Identifier(plain_name, "clustering"),
        held=sql.Literal(collection.generation),
        holds=function_name(collection, "generation"),
        path=path,
        search=function_name(collection, "search"),
        search_many=function_name(collection, "search_many"),
        documents=function_name(collection, "documents"),
        classify=function_name(collection, "classify"),
        table=collection.table,
        relation=sql.Literal(collection.table.as_string()),
        collection_id=sql.Literal(collection.id),
        type=sql.SQL(collection.vector_type),
        dimensions=sql.Literal(collection.dimensions),
        vector=sql.Identifier(collection.vector_column),
        order=by_index.distance,
        candidates=by_index.candidates,
        key=sql.Identifier(collection.key_column),
        stored_key=_column(collection.key_column),
        key_type=sql.SQL(collection.key_type),  # Postgres has named it
        id=_cast(collection.key_column, "text"),
        chunk=_column("chunk") if collection.is_managed else sql.SQL("0"),
        content=_cast(collection.content_column, "text"),
        metadata=_cast(collection.metadata_column, "jsonb"),
        passes=_passing(collection, sql.Identifier(plain_name, "filter")),
        text_search=sql.Literal(collection.text_search),
    )


def _cast(column: str | None, type_: LiteralString) -> sql.Composable:
    return sql.SQL("NULL::" + type_) if column is None else sql.SQL("{}::" + type_).format(_column(column))


def _passing(collection: Collection, wanted: sql.Identifier) -> sql.Composable:
    """Whether a row passes a filter that is not null; without metadata an error that says so."""
    if collection.metadata_column is None:
        return sql.SQL("embedq.refuse_filter({})").format(sql.Literal(collection.name))
    return sql.SQL("{}::jsonb @> {}").format(_column(collection.metadata_column), wanted)


def _column(name: str) -> sql.Identifier:
    return sql.Identifier("stored", name)
