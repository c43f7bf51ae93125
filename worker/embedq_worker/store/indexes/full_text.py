"""The index of full text search: a GIN index on just the expression that `<collection>_hybrid` matches by."""

from __future__ import annotations

from psycopg import sql

from embedq_sql import template
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collection import Collection
from embedq_worker.store.indexes.session import BuildOptions, plain_means, prepare
from embedq_worker.store.indexes.steps import analyze, create_index, drop, index_lock, is_valid
from embedq_worker.store.postgres.connections import Connection, store_errors


def build_full_text_index(connection: Connection, collection: Collection, options: BuildOptions) -> bool:
    """Build it while others read and write; False if it was there already.

    Of the options, memory and workers count. The connection must be in autocommit mode. Raises
    ``CollectionBusy``, ``CollectionConflict`` for a collection without texts, and ``StoreError``.
    """
    content = collection.content_column
    if content is None:
        raise CollectionConflict(
            f"collection {collection.name!r} has no column of texts, so it has no full text search either"
        )
    name = collection.full_text_index_name
    with (
        index_lock(connection, collection) as collection,
        store_errors(f"the full text index of collection {collection.name!r} was not built"),
    ):
        if is_valid(connection, collection, name):
            return False
        drop(connection, collection, name)
        prepare(connection, plain_means(connection, options))
        create_index(connection, collection, name, _creation(collection, content))
        analyze(connection, collection)
    return True


def drop_full_text_index(connection: Connection, collection: Collection) -> bool:
    """Drop it; False if there is none. Raises ``CollectionBusy`` and ``StoreError``."""
    name = collection.full_text_index_name
    with (
        index_lock(connection, collection) as collection,
        store_errors(f"the full text index of collection {collection.name!r} was not dropped"),
    ):
        if is_valid(connection, collection, name) is None:
            return False
        drop(connection, collection, name)
    return True


def _creation(collection: Collection, content: str) -> sql.Composed:
    return sql.SQL(template("build_full_text_index")).format(
        index=sql.Identifier(collection.full_text_index_name),
        table=collection.table,
        text_search=sql.Literal(collection.text_search),
        content=sql.Identifier(content),
    )
