"""What building, rebuilding and dropping an index share: one at a time, and nothing half done stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.errors import CollectionBusy, CollectionConflict, StoreError
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.collections import get_collection
from embedq_worker.store.functions import make_functions, searched_by
from embedq_worker.store.postgres.connections import Connection, end_interrupted, store_errors
from embedq_worker.store.vector_index import usable_quantization


@contextmanager
def index_lock(connection: Connection, collection: Collection) -> Iterator[Collection]:
    """One build, rebuild or drop of a collection's indexes at a time; gives the collection as it is by now.

    Until it is let go the collection keeps its quantisation and its column, and is not dropped. Raises
    ``CollectionBusy`` at once, ``UnknownCollection`` and ``CollectionConflict`` where the collection is not
    there any more, and ``StoreError``.
    """
    named = {"collection_id": collection.id}
    if not _is_true(connection, "try_lock_index", named):
        raise CollectionBusy(
            f"another session works on the indexes of collection {collection.name!r}; wait for it"
        )
    try:
        yield _now(connection, collection)
    finally:
        end_interrupted(connection)
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
    except errors.FeatureNotSupported as error:
        raise _by_hand(connection, collection, "built", creation) from error
    finally:
        end_interrupted(connection)
        # An index that is not valid costs every write and serves nobody.
        if not connection.closed and is_valid(connection, collection, name) is False:
            drop(connection, collection, name)


def is_valid(connection: Connection, collection: Collection, name: str) -> bool | None:
    """Whether the index of that name is valid; None if there is none. Raises the driver's errors."""
    named = {"schema": collection.table_schema, "table": collection.table_name, "name": name}
    row = connection.execute(statement("index_is_valid"), named).fetchone()
    return None if row is None else bool(row[0])


def drop(connection: Connection, collection: Collection, name: str) -> None:
    """Drop an index of the collection's table, if it is there, while others read and write. Raises
    ``CollectionConflict`` where that cannot be, and the driver's errors."""
    if is_valid(connection, collection, name) is not None:
        index = sql.Identifier(collection.table_schema, name)
        dropping = sql.SQL(template("drop_index")).format(index=index)
        try:
            connection.execute(dropping)
        except errors.FeatureNotSupported as error:
            raise _by_hand(connection, collection, "dropped", dropping) from error


def analyze(connection: Connection, collection: Collection) -> None:
    """Fresh statistics, which an index on an expression has of its own. Raises the driver's errors."""
    connection.execute(sql.SQL(template("analyze")).format(table=collection.table))


def use_index(connection: Connection, collection: Collection) -> None:
    """Let the collection's functions search by its index, and by the vectors where it has none.

    The caller holds ``index_lock``. Raises ``CollectionConflict`` and the driver's errors.
    """
    _let_search_by(connection, collection, usable_quantization(connection, collection))


def leave_index(connection: Connection, collection: Collection) -> None:
    """Let the collection's functions search by the vectors; otherwise as ``use_index``."""
    _let_search_by(connection, collection, "none")


def _by_hand(
    connection: Connection, collection: Collection, done: str, concurrently: sql.Composed
) -> CollectionConflict:
    """What is said where Postgres does it to no index while others write, with the statement that waits."""
    lines = [line for line in concurrently.as_string(connection).splitlines() if not line.startswith("--")]
    return CollectionConflict(
        f"the index of collection {collection.name!r} was not {done}: {collection.table_name} is "
        "partitioned, where Postgres does so to none while others write; hold them up and run "
        + " ".join(lines).replace(" CONCURRENTLY", "", 1)
    )


def _let_search_by(connection: Connection, collection: Collection, quantization: Quantization) -> None:
    """Make the functions anew unless they do so already; those for vectors do not depend on an index."""
    if collection.is_shadow or searched_by(connection, collection) == quantization:
        return
    with connection.transaction():
        connection.execute(statement("lock_collections"))
        make_functions(connection, collection, quantization)


def _now(connection: Connection, collection: Collection) -> Collection:
    found = get_collection(connection, collection.name)
    if collection.is_shadow and found.shadow is not None:
        found = found.as_shadow()
    if (found.id, found.generation) != (collection.id, collection.generation):
        raise CollectionConflict(
            f"collection {collection.name!r} was created anew or has other vectors since it was looked up: "
            "run the command again"
        )
    return found


def _is_true(connection: Connection, name: str, parameters: dict[str, int]) -> bool:
    with store_errors("the database did not answer"):
        (value,) = connection.execute(statement(name), parameters).fetchone() or (False,)
    return bool(value)
