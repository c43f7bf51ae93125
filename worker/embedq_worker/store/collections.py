"""Collections: their registry in Postgres, and their tables."""

from __future__ import annotations

from typing import Literal

import msgspec
from psycopg import errors, sql

from embedq.contract import COLLECTION_NAME, Versions, is_collection_name
from embedq.errors import UnknownCollection
from embedq_sql import statement, template
from embedq_worker.catalogue import Model
from embedq_worker.errors import CollectionBusy, CollectionConflict, StoreError
from embedq_worker.store.collection import Collection, Quantization, VectorType, collection_row
from embedq_worker.store.functions import drop_functions, make_functions, searched_by
from embedq_worker.store.long_texts import LongTexts
from embedq_worker.store.own_table.table import OwnTable, check_room, has_columns
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.quantization import column_type

_CHANGED_BY = {"model": "embedq collection migrate", "quantization": "embedq index rebuild"}
"""Commands that change a setting of a collection that is there; the others stay as they are."""


def list_collections(connection: Connection) -> list[Collection]:
    """Every collection, by name. Raises ``StoreError``."""
    with (
        store_errors("the collections were not read"),
        connection.cursor(row_factory=collection_row) as cursor,
    ):
        return cursor.execute(statement("collections")).fetchall()


def get_collection(connection: Connection, name: str) -> Collection:
    """The collection of that name. Raises ``UnknownCollection`` or ``StoreError``."""
    found = _find(connection, name)
    if found is None:
        raise UnknownCollection(name, [other.name for other in list_collections(connection)])
    return found


def create_collection(
    connection: Connection,
    *,
    name: str,
    model: Model,
    dimensions: int | None = None,
    vector_type: VectorType | None = None,
    schema: str = "public",
    versions: Versions = "clock",
    quantization: Quantization = "none",
    text_search: str = "simple",
    long_texts: LongTexts | None = None,
    own: OwnTable | None = None,
    keep_vectors: bool = False,
) -> Collection:
    """Make a collection, its table and its functions, or nothing at all; workers' roles may write it.

    ``dimensions`` and ``vector_type`` default to the model's own and to the type that an index of that
    ``quantization`` takes, or are those of somebody's ``own`` table, which is left as it is; ``text_search``
    is a configuration of full text search. Long texts are dead letters unless ``long_texts`` says otherwise.
    A column of one's own that holds vectors already, of whatever model, is refused unless ``keep_vectors``.
    One that exists with the same settings is returned as it is. Raises ``CollectionConflict``,
    ``VectorTooLong``, ``BadDimensions``, ``BadChunks`` and ``StoreError``.
    """
    _check_names(name, schema)
    if own is not None:
        dimensions, vector_type = own.vectors(dimensions, vector_type)
    if dimensions is None:
        dimensions = model.dimensions
    model.check_dimensions(dimensions)
    long_texts = (long_texts or LongTexts()).of(model)
    wanted = Collection(
        id=0,
        name=name,
        table_schema=schema,
        table_name=name,
        model=model.id,
        dimensions=dimensions,
        vector_type=column_type(dimensions, vector_type, quantization),
        versions=versions,
        quantization=quantization,
        text_search=_text_search(connection, text_search),
        on_too_long=long_texts.on_too_long,
        chunk_tokens=long_texts.chunk_tokens,
        chunk_overlap=long_texts.chunk_overlap,
    )
    if own is not None:
        wanted = own.lend_to(wanted)
    with store_errors(f"collection {name!r} was not created"), connection.transaction():
        connection.execute(statement("lock_collections"))
        existing = _find(connection, name)
        if existing is None:
            if own is not None and not keep_vectors:
                _refuse_vectors(connection, wanted)
            return _create(connection, wanted)
        _check_same(connection, existing, wanted)
        return existing


def drop_collection(connection: Connection, name: str) -> Collection:
    """Drop a collection's table, functions, clusterings, ledger, outbox and entry; its dead letters stay.
    Returns what it was. Somebody's own table stays with its vectors and their index.

    Raises ``UnknownCollection``, ``CollectionBusy`` when the table is in use for 10 s or somebody works on
    its indexes, ``CollectionConflict`` when something was built on it, and ``StoreError``. Messages that are
    queued for it are not looked at.
    """
    with store_errors(f"collection {name!r} was not dropped"), connection.transaction():
        connection.execute(statement("limit_lock_wait"))
        try:
            connection.execute(statement("lock_collections"))
            collection = get_collection(connection, name)
            if not _keep_from_indexes(connection, collection):
                raise CollectionBusy(
                    f"collection {name!r} was not dropped: somebody works on its indexes; wait for it"
                )
            connection.execute(statement("drop_watch"), {"collection_id": collection.id})
            drop_functions(connection, collection)
            if collection.is_managed:
                connection.execute(_compose("drop_collection", collection))
            else:
                connection.execute(statement("wait_for_writers"), {"collection_id": collection.id})
        except errors.LockNotAvailable as error:
            raise CollectionBusy(
                f"collection {name!r} was not dropped: its table is in use; try again"
            ) from error
        except errors.DependentObjectsStillExist as error:
            raise CollectionConflict(
                f"collection {name!r} was not dropped: views or functions were built on its table; "
                "drop them first"
            ) from error
        for forget in ("forget_items", "forget_outbox", "forget_collection"):
            connection.execute(statement(forget), {"collection_id": collection.id})
    return collection


def renew_functions(connection: Connection) -> None:
    """Make every collection's functions anew, in the transaction under way; none where the table or a column
    is gone. While somebody works on a collection's indexes its functions search by what they do now: whoever
    that is makes them anew in time.

    Raises ``CollectionConflict`` and ``StoreError``.
    """
    connection.execute(statement("lock_collections"))
    for collection in list_collections(connection):
        if _relation(connection, collection) is not None and has_columns(connection, collection):
            is_settled = _keep_from_indexes(connection, collection)
            by = None if is_settled else searched_by(connection, collection)
            make_functions(connection, collection, by)


def _check_names(name: str, schema: str) -> None:
    if not is_collection_name(name):
        raise CollectionConflict(f"{name!r} cannot name a collection; names match {COLLECTION_NAME}")
    if "%" in schema:  # the driver would take it for a placeholder, in the name of a table as anywhere
        raise CollectionConflict(f"schema {schema!r} cannot hold collections for the % in its name")


def _text_search(connection: Connection, name: str) -> str:
    """The configuration's name as it is understood from any search path."""
    try:
        with store_errors(f"text search configuration {name!r} was not looked up"):
            (found,) = connection.execute(statement("text_search_named"), {"name": name}).fetchone() or (
                name,
            )
    except StoreError as error:
        if isinstance(error.__cause__, errors.UndefinedObject | errors.InvalidName):
            raise CollectionConflict(
                f"there is no text search configuration {name!r}; \\dF in psql lists them"
            ) from error
        raise
    return str(found)


def _find(connection: Connection, name: str) -> Collection | None:
    with (
        store_errors(f"collection {name!r} was not looked up"),
        connection.cursor(row_factory=collection_row) as cursor,
    ):
        return cursor.execute(statement("collection"), {"name": name}).fetchone()


def _check_same(connection: Connection, existing: Collection, wanted: Collection) -> None:
    no_settings = {"id", "name", "generation", "shadow"}  # its other model comes and goes with a move
    settings = [each for each in Collection.__struct_fields__ if each not in no_settings]
    pairs = {each: (getattr(existing, each), getattr(wanted, each)) for each in settings}
    others = {each: f"{each} {is_!r}, not {asked!r}" for each, (is_, asked) in pairs.items() if is_ != asked}
    if others:
        changing = _CHANGED_BY.keys() & others.keys()
        ways = [f"`{_CHANGED_BY[each]} {existing.name}` changes the {each}, or " for each in sorted(changing)]
        raise CollectionConflict(
            f"collection {existing.name!r} exists with {'; '.join(others.values())}; "
            f"{''.join(ways)}choose another name, or drop it first"
        )
    if _relation(connection, existing) is None:
        raise CollectionConflict(
            f"collection {existing.name!r} is registered but its table is gone; "
            f"run `embedq collection drop {existing.name}` and create it again"
        )


def _refuse_vectors(connection: Connection, wanted: Collection) -> None:
    """Vectors that are there already may be another model's: a search would mix the two in silence."""
    column = sql.Identifier(wanted.vector_column)
    composed = sql.SQL(template("count_all_vectors")).format(table=wanted.table, vectors=column)
    (rows,) = connection.execute(composed).fetchone() or (0,)
    if rows:
        clearing = sql.SQL("UPDATE {} SET {} = NULL").format(wanted.table, column).as_string()
        raise CollectionConflict(
            f"{rows} rows have a vector in {wanted.place} already, and vectors of different models do not "
            f"compare; clear them ({clearing}), or give "
            f"--keep-vectors if all are vectors of {wanted.model}"
        )


def _create(connection: Connection, wanted: Collection) -> Collection:
    _check_room(connection, wanted)
    fields = msgspec.structs.asdict(wanted)
    (collection_id, generation) = connection.execute(statement("register_collection"), fields).fetchone() or (
        0,
        0,
    )
    made = msgspec.structs.replace(wanted, id=collection_id, generation=generation)
    if made.is_managed:
        _create_table(connection, made)
    make_functions(connection, made)
    connection.execute(statement("grant_workers_writing"), {"collection": made.name})
    return made


def _create_table(connection: Connection, made: Collection) -> None:
    try:
        connection.execute(_compose("collection", made))
    except (errors.DuplicateTable, errors.DuplicateObject) as error:
        raise CollectionConflict(
            f"collection {made.name!r} was not created: an index of it would have a name that is taken "
            f"({error.diag.message_primary}); choose another name"
        ) from error


def _check_room(connection: Connection, wanted: Collection) -> None:
    (exists,) = connection.execute(statement("has_schema"), {"schema": wanted.table_schema}).fetchone() or (
        False,
    )
    if not exists:
        raise CollectionConflict(
            f"there is no schema {wanted.table_schema!r}; create it first (CREATE SCHEMA)"
        )
    if not wanted.is_managed:
        check_room(connection, wanted)
    elif _relation(connection, wanted) is not None:
        raise CollectionConflict(
            f"{wanted.table_schema}.{wanted.table_name} exists and is not a collection of embedq; "
            "choose another name or --schema"
        )


def _relation(connection: Connection, collection: Collection) -> str | None:
    named = {"schema": collection.table_schema, "name": collection.table_name}
    row = connection.execute(statement("relation_kind"), named).fetchone()
    return str(row[0]) if row else None


def _keep_from_indexes(connection: Connection, collection: Collection) -> bool:
    named = {"collection_id": collection.id}
    (is_free,) = connection.execute(statement("keep_from_indexes"), named).fetchone() or (False,)
    return bool(is_free)


def _compose(name: Literal["collection", "drop_collection"], collection: Collection) -> sql.Composed:
    about = f"Collection of embedq: vectors of {collection.model}."
    return sql.SQL(template(name)).format(
        table=collection.table,
        metadata_index=sql.Identifier(f"{collection.name}_metadata_idx"),
        primary_key=sql.Identifier(f"{collection.name}_pkey"),
        type=sql.Identifier(collection.vector_type),
        dimensions=sql.Literal(collection.dimensions),
        about=sql.Literal(about),
    )
