"""What building, rebuilding and dropping an index share: one at a time, and nothing half done stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.errors import CollectionBusy, CollectionConflict, StoreError
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.connections import Connection, store_errors
from embedq_worker.store.functions import make_functions


@contextmanager
def index_lock(connection: Connection, collection: Collection) -> Iterator[None]:
    """One build, rebuild or drop of a collection's indexes at a time. Raises ``CollectionBusy`` at once."""
    named = {"collection_id": collection.id}
    if not _is_true(connection, "try_lock_index", named):
        raise CollectionBusy(
            f"another session builds or drops an index of collection {collection.name!r}; wait for it"
        )
    try:
        yield
    finally:
        if not connection.closed:
            _is_true(connection, "unlock_index", named)


def create_index(connection: Connection, collection: Collection, name: str, creation: sql.Composed) -> None:
    """Run a CREATE INDEX CONCURRENTLY; whatever ends it early, Ctrl-C included, takes the index away again.

    Raises ``CollectionConflict``, ``StoreError`` and the driver's errors.
    """
    try:
        connection.execute(creation)
    except errors.DiskFull as error:
        raise StoreError(
            f"the index of collection {collection.name!r} was not built: the server ran out of disk or of "
            "shared memory; in a container give it more (--shm-size), or use --workers 0 or less --memory"
        ) from error
    except errors.DuplicateTable as error:
        raise CollectionConflict(
            f"the index of collection {collection.name!r} was not built: its name {name} is taken by "
            "something else in the schema; rename that"
        ) from error
    finally:
        # An index that is not valid costs every write and serves nobody.
        if not connection.closed and is_valid(connection, collection, name) is False:
            drop(connection, collection, name)


def is_valid(connection: Connection, collection: Collection, name: str) -> bool | None:
    """Whether the index of that name is valid; None if there is none. Raises the driver's errors."""
    named = {"schema": collection.table_schema, "table": collection.table_name, "name": name}
    row = connection.execute(statement("index_is_valid"), named).fetchone()
    return None if row is None else bool(row[0])


def drop(connection: Connection, collection: Collection, name: str) -> None:
    """Drop an index of the collection's table, if it is there, while others read and write. Raises the
    driver's errors."""
    if is_valid(connection, collection, name) is not None:
        index = sql.Identifier(collection.table_schema, name)
        connection.execute(sql.SQL(template("drop_index")).format(index=index))


def analyze(connection: Connection, collection: Collection) -> None:
    """Fresh statistics, which an index on an expression has of its own. Raises the driver's errors."""
    connection.execute(sql.SQL(template("analyze")).format(table=collection.table))


def search_by(connection: Connection, collection: Collection, quantization: Quantization) -> None:
    """Make a quantised collection's functions anew; those of any other do not depend on its index.

    Raises ``CollectionConflict`` and the driver's errors.
    """
    if collection.quantization == "none" or collection.is_shadow:
        return
    with connection.transaction():
        connection.execute(statement("lock_collections"))
        make_functions(connection, msgspec.structs.replace(collection, quantization=quantization))


def _is_true(connection: Connection, name: str, parameters: dict[str, int]) -> bool:
    with store_errors("the database did not answer"):
        (value,) = connection.execute(statement(name), parameters).fetchone() or (False,)
    return bool(value)
