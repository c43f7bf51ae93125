"""The HNSW index of a collection: built after a bulk load, while others read and write."""

from __future__ import annotations

from psycopg import sql

from embedq_sql import template
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collection import Collection
from embedq_worker.store.indexes.session import BuildOptions, means_of, prepare
from embedq_worker.store.indexes.steps import (
    analyze,
    create_index,
    drop,
    index_lock,
    is_valid,
    leave_index,
    use_index,
)
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.quantization import index_key
from embedq_worker.store.vector_index import VectorIndex, vector_indexes


def build_index(connection: Connection, collection: Collection, options: BuildOptions | None = None) -> bool:
    """Build the index; False if it was there already, built with the same options.

    What an interrupted build left behind is removed before, and after an error or Ctrl-C. The connection must
    be in autocommit mode. Raises ``CollectionBusy`` while another session builds or drops,
    ``CollectionConflict`` for an index with other options, and ``StoreError``.
    """
    options = options or BuildOptions()
    with index_lock(connection, collection) as collection:
        is_there = _has_index(connection, collection, options)
        with store_errors(f"the index of collection {collection.name!r} was not built"):
            if not is_there:
                _drop_all(connection, collection)
                build(connection, collection, collection.index_name, options)
            # Also when it is there: Postgres finishes a build whose client was killed.
            use_index(connection, collection)
    return not is_there


def drop_index(connection: Connection, collection: Collection) -> bool:
    """Drop the index that ``build_index`` made, and what an interrupted rebuild left; False if there is none.

    Raises ``CollectionBusy``, ``CollectionConflict`` and ``StoreError``.
    """
    with (
        index_lock(connection, collection) as collection,
        store_errors(f"the index of collection {collection.name!r} was not dropped"),
    ):
        is_there = any(is_valid(connection, collection, name) is not None for name in _names(collection))
        if is_there:
            # First: without their index, functions that search by it would read every row for an answer that
            # is not exact.
            leave_index(connection, collection)
            _drop_all(connection, collection)
        # Somebody's index may serve as well, and a drop that was killed may have left functions without one.
        use_index(connection, collection)
    return is_there


def build(connection: Connection, collection: Collection, name: str, options: BuildOptions) -> None:
    """Build an index of the collection's quantisation under that name, and read new statistics.

    The caller holds ``index_lock``. Raises ``CollectionConflict``, ``StoreError`` and the driver's errors.
    """
    prepare(connection, means_of(connection, collection, collection.quantization, options))
    creation = sql.SQL(template("build_index")).format(
        index=sql.Identifier(name),
        table=collection.table,
        key=index_key(collection, collection.quantization),
        m=sql.Literal(options.m),
        ef_construction=sql.Literal(options.ef_construction),
    )
    create_index(connection, collection, name, creation)
    analyze(connection, collection)


def our_index(connection: Connection, collection: Collection, name: str) -> VectorIndex | None:
    """The collection's vector index of that name. Raises ``StoreError``."""
    found = vector_indexes(connection, collection)
    return next((index for index in found if index.name == name), None)


def options_are(index: VectorIndex, options: BuildOptions) -> bool:
    """Whether an index was built with these options, said or left out."""
    return _said(index) == {"m": str(options.m), "ef_construction": str(options.ef_construction)}


def _has_index(connection: Connection, collection: Collection, options: BuildOptions) -> bool:
    index = our_index(connection, collection, collection.index_name)
    if index is None or not index.valid:
        return False
    if not options_are(index, options) or index.quantization != collection.quantization:
        raise CollectionConflict(
            f"collection {collection.name!r} has an index with {_in_words(index)}; run `embedq index rebuild "
            f"{collection.name}` with the options that it should have, or keep it"
        )
    return True


def _said(index: VectorIndex) -> dict[str, str]:
    """The options of an index; pgvector has our defaults, too."""
    default = BuildOptions()
    said = dict(option.split("=", 1) for option in index.options)
    return {"m": str(default.m), "ef_construction": str(default.ef_construction)} | said


def _in_words(index: VectorIndex) -> str:
    options = ", ".join(f"{name}={value}" for name, value in _said(index).items())
    if index.quantization is None:
        return f"{options}, which serves no search of it (by another distance, or of a part of the vectors)"
    return f"{options}, quantization={index.quantization}"


def _names(collection: Collection) -> tuple[str, ...]:
    return (collection.index_name, collection.new_index_name, collection.old_index_name)


def _drop_all(connection: Connection, collection: Collection) -> None:
    for name in _names(collection):
        drop(connection, collection, name)
