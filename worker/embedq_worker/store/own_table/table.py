"""Somebody's own table, of which a collection writes the vectors: what it must be like, and which rights.

All of it is looked up in the catalogue when the collection is created. No message names a table or a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from psycopg import errors, sql
from psycopg.rows import class_row

from embedq_sql import statement
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collection import Collection, VectorType
from embedq_worker.store.own_table.key import KEY_TYPES
from embedq_worker.store.postgres.connections import Connection, store_errors

_TABLES = {"r", "p"}
"""``pg_class.relkind``: plain and partitioned."""


class OwnNames(msgspec.Struct, frozen=True, kw_only=True):
    """How a person names a table and its columns.

    ``table`` as in SQL: folded to lower case unless quoted, with its schema unless that is ``schema``. The
    columns are named just as they are.
    """

    table: str
    schema: str = "public"
    key: str = "id"
    vector: str = "embedding"
    content: str | None = None
    metadata: str | None = None


class OwnTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table that a collection can write its vectors into.

    The columns are called as in ``embedq.collection``. ``notes``: what a person should know of it.
    """

    table_schema: str
    table_name: str
    key_column: str
    key_type: str
    vector_column: str
    vector_type: VectorType
    dimensions: int
    content_column: str | None
    metadata_column: str | None
    notes: tuple[str, ...] = ()

    def vectors(self, dimensions: int | None, vector_type: VectorType | None) -> tuple[int, VectorType]:
        """The size and type of its vectors. Raises ``CollectionConflict`` where others are asked for."""
        asked = (dimensions or self.dimensions, vector_type or self.vector_type)
        if asked != (self.dimensions, self.vector_type):
            raise CollectionConflict(
                f"column {self.vector_column} of {self.table_schema}.{self.table_name} is {self.vector_type}"
                f"({self.dimensions}), not {asked[1]}({asked[0]})"
            )
        return asked

    def lend_to(self, collection: Collection) -> Collection:
        """A collection that writes into this table.

        Raises ``CollectionConflict`` for one that chunks its texts: a key has one row.
        """
        if collection.on_too_long == "chunk":
            raise CollectionConflict(
                f"collection {collection.name!r} cannot chunk its texts: {self.table_schema}."
                f"{self.table_name} has one row a key; choose error or truncate"
            )
        return msgspec.structs.replace(
            collection,
            is_managed=False,
            table_schema=self.table_schema,
            table_name=self.table_name,
            key_column=self.key_column,
            key_type=self.key_type,
            vector_column=self.vector_column,
            content_column=self.content_column,
            metadata_column=self.metadata_column,
        )


class _Place(NamedTuple):
    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


class _Table(msgspec.Struct, frozen=True):
    kind: str
    is_partition: bool
    has_children: bool
    has_row_security: bool
    may_use_schema: bool
    may_create: bool
    role: str


class _Column(msgspec.Struct, frozen=True):
    name: str
    type: str
    vector_type: VectorType | None
    size: int
    is_required: bool
    is_generated: bool
    is_exact: bool
    is_unique: bool
    may_select: bool
    may_update: bool


def find_own_table(connection: Connection, names: OwnNames) -> OwnTable:
    """Look a table up, its columns, and what the role of this connection may do with them.

    Raises ``CollectionConflict`` where it cannot be used, with what to change, and ``StoreError``.
    """
    with store_errors(f"the table {names.table} was not looked up"):
        place = _split(connection, names)
        table = _table(connection, place)
        columns = _columns(connection, place)
        key, vector = (_named(place, columns, name) for name in (names.key, names.vector))
        others = [_named(place, columns, name) for name in (names.content, names.metadata) if name]
        _check_key(place, key)
        _check_vector(place, vector)
        if names.metadata and columns[names.metadata].type != "jsonb":
            raise CollectionConflict(f"column {names.metadata} of {place} is not jsonb, as metadata must be")
        _check_rights(place, table, [key, vector, *others], vector)
        return OwnTable(
            table_schema=place.schema,
            table_name=place.table,
            key_column=key.name,
            key_type=key.type,
            vector_column=vector.name,
            vector_type=vector.vector_type or "vector",
            dimensions=vector.size,
            content_column=names.content,
            metadata_column=names.metadata,
            notes=tuple(_notes(connection, place, table, vector)),
        )


def check_room(connection: Connection, wanted: Collection) -> None:
    """Whether a collection in somebody's own table gets in nobody's way.

    Raises ``CollectionConflict``, and the driver's errors.
    """
    where = f"{wanted.table_schema}.{wanted.table_name}"
    indexes = [
        *(wanted.index_name, wanted.new_index_name, wanted.old_index_name),
        wanted.full_text_index_name,
    ]
    named = {**msgspec.structs.asdict(wanted), "indexes": indexes}
    writer = connection.execute(statement("own_writer"), named).fetchone()
    if writer is not None:
        raise CollectionConflict(
            f"column {wanted.vector_column} of {where} is written by collection {writer[0]!r} already; "
            "give this one a column of its own"
        )
    taken = connection.execute(statement("own_index_taken"), named).fetchone()
    if taken is not None:
        raise CollectionConflict(
            f"an index of collection {wanted.name!r} would be called {taken[0]}, and something else in "
            f"schema {wanted.table_schema!r} is; choose another name"
        )


def has_columns(connection: Connection, collection: Collection) -> bool:
    """Whether the table still has all the columns that the registry names. Raises the driver's errors."""
    named = (collection.key_column, collection.vector_column, collection.content_column)
    wanted = {each for each in (*named, collection.metadata_column) if each}
    place = _Place(collection.table_schema, collection.table_name)
    return wanted <= _columns(connection, place).keys()


def _split(connection: Connection, names: OwnNames) -> _Place:
    try:
        (parts,) = connection.execute(statement("split_name"), {"name": names.table}).fetchone() or ([],)
    except errors.InvalidParameterValue:
        parts = []
    if len(parts) not in (1, 2):
        raise CollectionConflict(f"{names.table} is not a table's name; give SCHEMA.TABLE, quoted as in SQL")
    said = (*parts, names.key, names.vector, names.content or "", names.metadata or "")
    if any("%" in each for each in said):  # the driver would take it for a placeholder
        raise CollectionConflict(f"the table {names.table} cannot be used: a name of it has a % in it")
    return _Place(*parts) if len(parts) == 2 else _Place(names.schema, parts[0])


def _table(connection: Connection, place: _Place) -> _Table:
    with connection.cursor(row_factory=class_row(_Table)) as cursor:
        table = cursor.execute(statement("own_table"), place._asdict()).fetchone()
    if table is None:
        raise CollectionConflict(f"there is no table {place}; give --table as SCHEMA.TABLE")
    if table.kind not in _TABLES:
        raise CollectionConflict(f"{place} is no table; a view or a foreign table has no vectors to write")
    if table.is_partition or table.has_children:
        raise CollectionConflict(
            f"{place} is a partition, or has tables that inherit from it; name the partitioned table, "
            "whose keys are unique"
        )
    return table


def _columns(connection: Connection, place: _Place) -> dict[str, _Column]:
    with connection.cursor(row_factory=class_row(_Column)) as cursor:
        return {each.name: each for each in cursor.execute(statement("own_columns"), place._asdict())}


def _named(place: _Place, columns: dict[str, _Column], name: str) -> _Column:
    if name not in columns:
        raise CollectionConflict(f"{place} has no column {name}; it has {', '.join(columns)}")
    return columns[name]


def _check_key(place: _Place, key: _Column) -> None:
    if key.type.partition("(")[0] not in KEY_TYPES:
        raise CollectionConflict(
            f"column {key.name} of {place} is {key.type}; a key must be {', '.join(KEY_TYPES)}"
        )
    if not (key.is_unique and key.is_required and key.is_exact):
        raise CollectionConflict(
            f"column {key.name} of {place} cannot be the key: it must be NOT NULL, have a unique index for "
            "itself, and no collation for which different texts are equal"
        )


def _check_vector(place: _Place, vector: _Column) -> None:
    if vector.vector_type is None or vector.size < 1:
        raise CollectionConflict(
            f"column {vector.name} of {place} is {vector.type}; it must be vector(n) or halfvec(n) with its "
            "dimensions (ALTER TABLE … ALTER COLUMN … TYPE)"
        )
    if vector.is_generated or vector.is_required:
        raise CollectionConflict(
            f"column {vector.name} of {place} must not be generated and must take null: a new row has no "
            "vector yet, and a deleted id has none (ALTER TABLE … ALTER COLUMN … DROP NOT NULL)"
        )


def _check_rights(place: _Place, table: _Table, read: Iterable[_Column], vector: _Column) -> None:
    schema = [
        right for right, has in (("USAGE", table.may_use_schema), ("CREATE", table.may_create)) if not has
    ]
    unreadable = ", ".join(_quoted(each.name) for each in read if not each.may_select)
    missing = [f"GRANT {', '.join(schema)} ON SCHEMA {_quoted(place.schema)}"] if schema else []
    where = f"ON {_quoted(place.schema)}.{_quoted(place.table)}"
    if unreadable:
        missing.append(f"GRANT SELECT ({unreadable}) {where}")
    if not vector.may_update:
        missing.append(f"GRANT UPDATE ({_quoted(vector.name)}) {where}")
    if missing:
        statements = "; ".join(f"{each} TO {table.role}" for each in missing)
        raise CollectionConflict(
            f"role {table.role} lacks rights for a collection in {place}; let the owners run: {statements}"
        )


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _notes(connection: Connection, place: _Place, table: _Table, vector: _Column) -> Iterator[str]:
    named = {**place._asdict(), "column": vector.name}
    triggers = [name for (name,) in connection.execute(statement("own_triggers"), named)]
    if triggers:
        yield (
            f"each vector that is written fires {', '.join(triggers)}; the item of a row that a trigger "
            "refuses becomes a dead letter"
        )
    if table.has_row_security:
        yield (
            f"{place} has row-level security: a worker's role needs a policy that shows it every row (FOR "
            "SELECT and FOR UPDATE) or BYPASSRLS; what it does not see is a dead letter, no_row"
        )
