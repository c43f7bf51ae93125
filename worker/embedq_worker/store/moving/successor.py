"""A collection's move from one model to another, while it is read and written.

The successor's vectors get a column of their own, the shadow, which each write keeps current and which is
filled for the rows that were there before. A switch swaps the two columns' names, and what the registry says
of the models, in one transaction; undoing it is the same swap. Each change holds the table alone for a
moment, and whoever writes looks at the registry after it holds the table: nobody puts a vector into the
column of another model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.catalogue import Model
from embedq_worker.errors import CollectionBusy, CollectionConflict
from embedq_worker.store.collection import Collection, Shadow, VectorType
from embedq_worker.store.collections import get_collection
from embedq_worker.store.functions import make_functions
from embedq_worker.store.indexes.steps import index_lock
from embedq_worker.store.moving.snapshots import wait_for_snapshots
from embedq_worker.store.moving.successor_checks import State, check_built, check_start, check_state
from embedq_worker.store.moving.successor_grants import copy_grants
from embedq_worker.store.moving.successor_unfilled import (
    filled_index,
    index_unfilled,
    refuse_unfilled,
    refuse_unindexed,
    unfilled_index,
)
from embedq_worker.store.postgres.connections import Connection, end_interrupted, store_errors
from embedq_worker.store.quantization import column_type

_TRIES = 60
_PAUSE = 0.5
"""Seconds between two tries to hold a table that is in use: what queued up behind the first one goes on."""
_PATIENT_EVERY = 5
"""Of so many tries one waits for long enough to end an autovacuum; queries wait behind it for a second."""


def start(
    connection: Connection,
    name: str,
    model: Model,
    dimensions: int | None = None,
    vector_type: VectorType | None = None,
    *,
    building: Callable[[], None] = lambda: None,
) -> Collection:
    """Begin a collection's move to ``model``; the collection, with its shadow.

    Safe to repeat; ``building`` as of ``index_unfilled``. Raises ``CollectionConflict`` where it cannot move
    so, ``BadDimensions``, ``VectorTooLong``, ``UnknownCollection``, ``CollectionBusy``, also while somebody
    works on the collection's indexes, and ``StoreError``.
    """
    collection = get_collection(connection, name)
    size = dimensions or model.dimensions
    kind = column_type(size, vector_type, collection.quantization)
    model.check_dimensions(size)
    if collection.shadow is None or not _is_to(collection.shadow, model, size, kind):
        check_start(connection, collection, model, size, kind)
        # An index that is built or dropped meanwhile is left on the wrong column, or under the wrong name.
        with index_lock(connection, collection) as now, store_errors(f"collection {name!r} was not moved"):
            column_type(size, kind, now.quantization)
            _briefly(connection, collection, lambda: _add_shadow(connection, name, model.id, size, kind))
        collection = get_collection(connection, name)
    index_unfilled(connection, collection, building)
    return collection


def swap(connection: Connection, name: str, to: State) -> Collection:
    """Let a collection and its shadow change places: ``next`` is the switch, ``previous`` its undoing.

    Returns what it is then. In one transaction, which holds the table alone for a moment. Raises
    ``RowsUnfilled`` where rows lack a vector of the model to switch to, ``CollectionConflict`` where there is
    nothing to switch to or something of somebody's stands in the way, ``CollectionBusy``, also while somebody
    works on the collection's indexes, and ``StoreError``. Needs the indexes that ``index_unfilled`` makes.
    """
    collection = get_collection(connection, name)
    check_state(collection, to)
    check_built(connection, collection)
    with index_lock(connection, collection), store_errors(f"collection {name!r} was not switched"):
        refuse_unindexed(connection, collection)
        refuse_unfilled(connection, collection)
        wait_for_snapshots(connection, collection)
        _briefly(connection, collection, lambda: _swap(connection, name, to))
    return get_collection(connection, name)


def end(connection: Connection, name: str, state: State) -> Collection:
    """End a move: drop the shadow and its column; ``previous`` finishes it, ``next`` abandons it.

    Returns what the collection was before. Raises ``CollectionConflict`` where there is no such move or
    something of somebody's was built on the column, ``CollectionBusy`` and ``StoreError``.
    """
    collection = get_collection(connection, name)
    check_state(collection, state)
    with (
        index_lock(connection, collection),
        store_errors(f"the move of collection {name!r} was not ended"),
    ):
        _require(connection, collection)
        _briefly(connection, collection, lambda: _drop_shadow(connection, name, state))
    return collection


@contextmanager
def moving(connection: Connection, collection: Collection) -> Iterator[None]:
    """Hold a collection's move: one session at a time. Raises ``CollectionBusy``."""
    named = {"collection_id": collection.id}
    with store_errors("the database did not answer"):
        (is_mine,) = connection.execute(statement("lock_filling"), named).fetchone() or (False,)
    if not is_mine:
        raise CollectionBusy(f"another session migrates collection {collection.name!r}; wait for it")
    try:
        yield
    finally:
        end_interrupted(connection)
        if not connection.closed:
            connection.execute(statement("unlock_filling"), named)


def _is_to(shadow: Shadow, model: Model, dimensions: int, vector_type: VectorType) -> bool:
    same = (shadow.model, shadow.dimensions, shadow.vector_type, shadow.state)
    return same == (model.id, dimensions, vector_type, "next")


def _add_shadow(connection: Connection, name: str, model: str, dimensions: int, kind: VectorType) -> None:
    collection = get_collection(connection, name)
    named: dict[str, Any] = {"collection_id": collection.id}
    try:
        (generation,) = connection.execute(statement("new_generation"), named).fetchone() or (0,)
        column = f"{collection.vector_column}_g{generation}"
        shadow = Shadow(
            generation=generation,
            model=model,
            dimensions=dimensions,
            vector_type=kind,
            column_name=column,
            state="next",
        )
        fields = {**named, **{each: getattr(shadow, each) for each in Shadow.__struct_fields__}}
        connection.execute(statement("register_shadow"), fields)
    except errors.UniqueViolation as error:
        raise CollectionConflict(f"collection {name!r} moves to another model already") from error
    connection.execute(
        sql.SQL(template("add_shadow")).format(
            table=collection.table,
            shadow=sql.Identifier(column),
            type=sql.SQL(kind),
            dimensions=sql.Literal(dimensions),
            about=sql.Literal(_about(shadow)),
        )
    )


def _swap(connection: Connection, name: str, to: State) -> None:
    collection = get_collection(connection, name)
    check_state(collection, to)  # again: it is held now
    check_built(connection, collection)
    refuse_unfilled(connection, collection)
    copy_grants(connection, collection)
    arriving, leaving = collection.as_shadow(), _leaving(collection)
    fields: dict[str, Any] = {
        "collection_id": collection.id,
        "model": arriving.model,
        "dimensions": arriving.dimensions,
        "vector_type": arriving.vector_type,
        "generation": arriving.generation,
    }
    connection.execute(
        sql.SQL(template("swap_columns")).format(
            table=collection.table,
            vector=sql.Identifier(collection.vector_column),
            shadow=sql.Identifier(arriving.vector_column),
            leaving=sql.Identifier(leaving.column_name),
            proof=sql.Identifier(collection.proof_name),
            about_table=sql.Literal(f"Collection of embedq: vectors of {arriving.model}."),
            about_vector=sql.Literal("The text's vector."),
            about_leaving=sql.Literal(_about(leaving)),
        )
    )
    _swap_indexes(connection, collection)
    connection.execute(statement("swap_collection"), fields)
    shadow_fields = {each: getattr(leaving, each) for each in Shadow.__struct_fields__}
    connection.execute(statement("swap_shadow"), {**shadow_fields, "collection_id": collection.id})
    make_functions(connection, get_collection(connection, name))


def _leaving(collection: Collection) -> Shadow:
    """The collection's model of now, as the shadow that it is after a switch."""
    assert collection.shadow is not None
    return Shadow(
        generation=collection.generation,
        model=collection.model,
        dimensions=collection.dimensions,
        vector_type=collection.vector_type,
        column_name=f"{collection.vector_column}_g{collection.generation}",
        state="previous" if collection.shadow.state == "next" else "next",
    )


def _swap_indexes(connection: Connection, collection: Collection) -> None:
    pairs = [
        (collection.index_name, collection.as_shadow().index_name),
        (filled_index(collection), unfilled_index(collection)),
    ]
    free = f"{collection.name}_swapped_idx"
    for one, other in pairs:
        names = {"one": one, "other": other, "free": free}
        qualified = {each: sql.Identifier(collection.table_schema, plain) for each, plain in names.items()}
        plain = {f"plain_{each}": sql.Identifier(name) for each, name in names.items()}
        connection.execute(sql.SQL(template("swap_indexes")).format(**qualified, **plain))


def _require(connection: Connection, collection: Collection) -> None:
    """No row may lack a vector of the model that stays; nothing to do where it was never switched."""
    named = {"table": collection.table.as_string(connection), "column": collection.vector_column}
    if connection.execute(statement("is_required"), named).fetchone() == (True,):
        return
    names = {
        "table": collection.table,
        "vector": sql.Identifier(collection.vector_column),
        "proof": sql.Identifier(collection.proof_name),
    }
    _briefly(connection, collection, lambda: _execute(connection, "require_unchecked", names))
    _execute(connection, "require_checked", names)
    _briefly(connection, collection, lambda: _execute(connection, "require", names))


def _drop_shadow(connection: Connection, name: str, state: State) -> None:
    collection = get_collection(connection, name)
    check_state(collection, state)
    shadow = collection.as_shadow()
    connection.execute(statement("forget_shadow"), {"collection_id": collection.id})
    names = {
        "table": collection.table,
        "shadow": sql.Identifier(shadow.vector_column),
        "lacking": sql.Identifier(collection.table_schema, filled_index(collection)),
    }
    try:
        _execute(connection, "drop_shadow", names)
    except errors.DependentObjectsStillExist as error:
        raise CollectionConflict(
            f"the move of collection {name!r} was not ended: views or other things were built on column "
            f"{shadow.vector_column}; drop them first"
        ) from error


def _briefly(connection: Connection, collection: Collection, work: Callable[[], None]) -> None:
    """Do ``work`` in a transaction that holds the registry and the table alone, as soon as nobody is in the
    way for a moment."""
    hold = sql.SQL(template("hold_exclusively")).format(table=collection.table)
    for tries_left in reversed(range(_TRIES)):
        try:
            with connection.transaction():
                is_patient = tries_left % _PATIENT_EVERY == 0
                connection.execute(statement("change_patiently" if is_patient else "change_briefly"))
                connection.execute(statement("lock_collections"))
                connection.execute(hold)
                work()
                return
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            if not tries_left:
                raise CollectionBusy(
                    f"collection {collection.name!r} was not changed: its table was in use at each of "
                    f"{_TRIES} tries; look for long queries and open transactions on it "
                    "(pg_stat_activity), and try again"
                ) from error
        time.sleep(_PAUSE)


def _execute(connection: Connection, name: LiteralString, names: Mapping[str, sql.Composable]) -> None:
    connection.execute(sql.SQL(template(name)).format(**names))


def _about(shadow: Shadow) -> str:
    when = "come to" if shadow.state == "next" else "came from"
    return f"The text's vector of {shadow.model}, the model that the collection {when}; null: not embedded."
