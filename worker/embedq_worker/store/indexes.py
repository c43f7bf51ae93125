"""The HNSW index of a collection: built after a bulk load, while others read and write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.errors import CollectionBusy, CollectionConflict, StoreError
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.collections import count_rows
from embedq_worker.store.connections import Connection, store_errors
from embedq_worker.store.functions import make_functions
from embedq_worker.store.quantization import index_key
from embedq_worker.store.vector_index import VectorIndex, vector_indexes

MOST_MEMORY = 1 << 30
"""Bytes for a build unless told otherwise.

A graph that outgrows its memory is finished on disk, many times slower.
"""
_BYTES = {"vector": 4, "halfvec": 2}


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to build."""

    m: int = 16
    """Neighbours a row: higher finds more, costs memory and time. pgvector's default."""
    ef_construction: int = 64
    """Candidates looked at for each row, at least twice ``m``: higher finds more, costs time.

    pgvector's default.
    """
    memory: int | None = None
    """Bytes of ``maintenance_work_mem``; None: what the graph needs by estimate, ``MOST_MEMORY`` at most."""
    workers: int | None = None
    """Parallel workers beside the session itself; None: as the server is set."""


class Progress(NamedTuple):
    """How far a build is, in blocks of the table; ``total`` is 0 until it is known."""

    phase: str
    done: int
    total: int


def build_index(connection: Connection, collection: Collection, options: BuildOptions | None = None) -> bool:
    """Build the index; False if it was there already, built with the same options.

    What an interrupted build left behind is removed before, and after an error or Ctrl-C. The connection must
    be in autocommit mode. Raises ``CollectionBusy`` while another session builds or drops,
    ``CollectionConflict`` for an index with other options, and ``StoreError``.
    """
    options = options or BuildOptions()
    with _index_lock(connection, collection):
        if _has_index(connection, collection, options):
            return False
        with store_errors(f"the index of collection {collection.name!r} was not built"):
            _drop(connection, collection)
            _prepare_session(connection, collection, options)
            _create(connection, collection, options)
            connection.execute(sql.SQL(template("analyze")).format(table=collection.table))
            _search_by(connection, collection, collection.quantization)
    return True


def drop_index(connection: Connection, collection: Collection) -> bool:
    """Drop the index that ``build_index`` made; False if there is none.

    Raises ``CollectionBusy`` and ``StoreError``.
    """
    with _index_lock(connection, collection):
        if _ours(connection, collection) is None:
            return False
        with store_errors(f"the index of collection {collection.name!r} was not dropped"):
            # First: without their index, functions that search by it would read every row for an answer that
            # is not exact.
            _search_by(connection, collection, "none")
            _drop(connection, collection)
    return True


def progress(connection: Connection, pid: int) -> Progress | None:
    """How far the build of the session with that process id is; None when it is not building.

    Raises ``StoreError``.
    """
    with store_errors("the progress was not read"):
        row = connection.execute(statement("index_progress"), {"pid": pid}).fetchone()
    return Progress(*row) if row else None


@contextmanager
def _index_lock(connection: Connection, collection: Collection) -> Iterator[None]:
    named = {"collection_id": collection.id}
    if not _value(connection, "try_lock_index", named):
        raise CollectionBusy(
            f"another session builds or drops the index of collection {collection.name!r}; wait for it"
        )
    try:
        yield
    finally:
        if not connection.closed:
            _value(connection, "unlock_index", named)


def _value(connection: Connection, name: str, parameters: dict[str, Any]) -> Any:
    with store_errors("the database did not answer"):
        (value,) = connection.execute(statement(name), parameters).fetchone() or (None,)
    return value


def _ours(connection: Connection, collection: Collection) -> VectorIndex | None:
    found = vector_indexes(connection, collection)
    return next((index for index in found if index.name == collection.index_name), None)


def _has_index(connection: Connection, collection: Collection, options: BuildOptions) -> bool:
    index = _ours(connection, collection)
    if index is None or not index.valid:
        return False
    wanted = {f"m={options.m}", f"ef_construction={options.ef_construction}"}
    if set(index.options) != wanted or index.quantization != collection.quantization:
        raise CollectionConflict(
            f"collection {collection.name!r} has an index with {', '.join(index.options)}, quantization="
            f"{index.quantization}; "
            f"to build another run `embedq index drop {collection.name}` first"
        )
    return True


def _prepare_session(connection: Connection, collection: Collection, options: BuildOptions) -> None:
    memory = options.memory
    if memory is None:
        present = _value(connection, "setting_bytes", {"name": "maintenance_work_mem"})
        memory = max(present, min(_graph_bytes(connection, collection, options.m), MOST_MEMORY))
    _set(connection, "maintenance_work_mem", f"{memory >> 10}kB")
    if options.workers is not None:
        _set(connection, "max_parallel_maintenance_workers", str(options.workers))


def _search_by(connection: Connection, collection: Collection, quantization: Quantization) -> None:
    """Make a quantised collection's functions anew; those of any other do not depend on its index."""
    if collection.quantization == "none":
        return
    with connection.transaction():
        connection.execute(statement("lock_collections"))
        make_functions(connection, msgspec.structs.replace(collection, quantization=quantization))


def _set(connection: Connection, name: str, value: str) -> None:
    connection.execute(statement("session_setting"), {"name": name, "value": value})


def _graph_bytes(connection: Connection, collection: Collection, m: int) -> int:
    """A row's vector, 2·m neighbours on the ground layer and about as many above, 16 bytes each, and a fixed
    part."""
    rows = count_rows(connection, collection) or 0
    return rows * (collection.dimensions * _BYTES[collection.vector_type] + 4 * m * 16 + 256)


def _create(connection: Connection, collection: Collection, options: BuildOptions) -> None:
    composed = sql.SQL(template("build_index")).format(
        index=sql.Identifier(collection.index_name),
        table=collection.table,
        key=index_key(collection, collection.quantization),
        m=sql.Literal(options.m),
        ef_construction=sql.Literal(options.ef_construction),
    )
    try:
        connection.execute(composed)
    except errors.DiskFull as error:
        raise StoreError(
            f"the index of collection {collection.name!r} was not built: the server ran out of disk or of "
            "shared memory; in a container give it more (--shm-size), or use --workers 0 or less --memory"
        ) from error
    finally:
        # Whatever ended the build, Ctrl-C included: an index that is not valid costs every write and serves
        # nobody.
        if not connection.closed and not _is_valid(connection, collection):
            _drop(connection, collection)


def _is_valid(connection: Connection, collection: Collection) -> bool:
    index = _ours(connection, collection)
    return index is None or index.valid


def _drop(connection: Connection, collection: Collection) -> None:
    index = sql.Identifier(collection.table_schema, collection.index_name)
    connection.execute(sql.SQL(template("drop_index")).format(index=index))
