"""Rebuilding a vector index while searches use the old one: built beside it, swapped in, the old one dropped.

Killed at any moment, it leaves one of three things, which the next rebuild finds by their names: a new index
that is not valid (dropped), one that is (swapped in, if it is what is wanted), or the old one (dropped).
"""

from __future__ import annotations

import msgspec
from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.errors import CollectionBusy, CollectionConflict
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.indexes.building import build, options_are, our_index
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.indexes.steps import drop, index_lock, is_valid, use_index
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.quantization import column_type


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be other than it is; ``BuildOptions`` says what each means. None: as before."""

    quantization: Quantization | None = None
    m: int | None = None
    ef_construction: int | None = None
    memory: int | None = None
    workers: int | None = None


def rebuild_index(
    connection: Connection, collection: Collection, changes: Changes | None = None
) -> Collection:
    """Build the index anew beside the old one, and swap them in one transaction; returns the collection.

    A search finds an index at any moment. Without an old one it is a build. The connection must be in
    autocommit mode. Raises ``CollectionBusy``, ``CollectionConflict``, ``VectorTooLong`` for a quantisation
    that cannot hold the vectors, and ``StoreError``.
    """
    changes = changes or Changes()
    with index_lock(connection, collection) as before:
        _check_moves(before, changes)
        wanted = msgspec.structs.replace(before, quantization=changes.quantization or before.quantization)
        column_type(wanted.dimensions, wanted.vector_type, wanted.quantization)
        options = rebuild_options(connection, before, changes)
        with store_errors(f"the index of collection {before.name!r} was not rebuilt"):
            drop(connection, before, before.old_index_name)
            if not _is_built(connection, wanted, options):
                drop(connection, wanted, wanted.new_index_name)
                build(connection, wanted, wanted.new_index_name, options)
            _swap(connection, before, wanted)
            drop(connection, wanted, wanted.old_index_name)
    return wanted


def rebuild_options(connection: Connection, collection: Collection, changes: Changes) -> BuildOptions:
    """How the index will be built: as the present one where nothing else is said. Raises ``StoreError``."""
    present = our_index(connection, collection, collection.index_name)
    kept = dict(option.split("=") for option in present.options) if present else {}
    default = BuildOptions()
    m = changes.m or int(kept.get("m", default.m))
    wide = changes.ef_construction or int(kept.get("ef_construction", default.ef_construction))
    return BuildOptions(m=m, ef_construction=max(wide, 2 * m), memory=changes.memory, workers=changes.workers)


def _check_moves(collection: Collection, changes: Changes) -> None:
    """The vectors of both models are to fit one quantisation, and a switch must find both indexed by it."""
    if collection.shadow is not None and changes.quantization not in (None, collection.quantization):
        ending = "abandon" if collection.shadow.state == "next" else "finish"
        raise CollectionConflict(
            f"the index of collection {collection.name!r} was not rebuilt: it moves to another model, "
            f"and the vectors of both are indexed by quantization {collection.quantization}; end that first "
            f"(`embedq collection migrate {collection.name} --{ending}`), or leave --quantization out"
        )


def _is_built(connection: Connection, wanted: Collection, options: BuildOptions) -> bool:
    """Whether an interrupted rebuild left just the index that is wanted."""
    index = our_index(connection, wanted, wanted.new_index_name)
    if index is None or not index.valid:
        return False
    return options_are(index, options) and index.quantization == wanted.quantization


def _swap(connection: Connection, before: Collection, wanted: Collection) -> None:
    try:
        with connection.transaction():
            connection.execute(statement("limit_lock_wait"))
            connection.execute(statement("lock_collections"))
            if is_valid(connection, before, before.index_name) is not None:
                _rename(connection, wanted, wanted.index_name, wanted.old_index_name)
            _rename(connection, wanted, wanted.new_index_name, wanted.index_name)
            if wanted.quantization != before.quantization:
                named = {"collection_id": wanted.id, "quantization": wanted.quantization}
                connection.execute(statement("quantize_collection"), named)
            use_index(connection, wanted)  # of the same quantisation, too: there may have been none before
    except errors.LockNotAvailable as error:
        raise CollectionBusy(
            f"the new index of collection {wanted.name!r} is built but not in use: the registry or an index "
            f"was locked for 10 s; run `embedq index rebuild {wanted.name}` again, it goes on from there"
        ) from error


def _rename(connection: Connection, collection: Collection, name: str, new: str) -> None:
    connection.execute(
        sql.SQL(template("rename_index")).format(
            index=sql.Identifier(collection.table_schema, name), name=sql.Identifier(new)
        )
    )
