"""What a collection is made from: rows with an id and a text, which a query gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.errors import SourceError, StoreError
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection, store_errors

_COLUMNS = {"id", "text", "metadata", "version"}


class Source:
    """A query's rows.

    ``is_narrow``: in it, names without a schema are Postgres' own. ``has_metadata``: whether it says what an
    item's metadata are, if only that there are none.
    """

    def __init__(self, query: sql.Composable, columns: set[str], *, is_narrow: bool = False) -> None:
        self.is_narrow = is_narrow
        self.has_metadata = "metadata" in columns
        optional = {
            "source_metadata": sql.SQL("source.metadata::jsonb::text"),
            "source_version": sql.SQL("source.version::bigint"),
        }
        chosen = {
            column: form if column.removeprefix("source_") in columns else sql.NULL
            for column, form in optional.items()
        }
        self.rows = sql.SQL(template("source_rows")).format(source_query=query, **chosen)
        """Id, text, metadata as JSON, version and the metadata's hash, in byte order of the ids."""


def queried(connection: Connection, query: str) -> Source:
    """What a query of somebody's gives: columns ``id`` and ``text``, perhaps ``metadata`` and ``version``.

    Raises ``SourceError`` and ``StoreError``.
    """
    inner = sql.SQL(query.strip().rstrip(";"))  # whoever runs the command wrote it
    with source_errors():
        cursor = connection.execute(sql.SQL(template("source_columns")).format(source_query=inner))
    columns = {column.name for column in cursor.description or ()}
    if not {"id", "text"} <= columns <= _COLUMNS:
        raise SourceError(
            "the query must give the columns id and text, and may give metadata and version, by these "
            f"names; it gives {', '.join(sorted(columns)) or 'none'}"
        )
    return Source(inner, columns)


def watched(connection: Connection, collection: Collection) -> Source:
    """The table that a collection follows. Raises ``SourceError`` and ``StoreError``."""
    wanted = {"collection": collection.name, "collection_id": collection.id}
    with store_errors("the watched table was not looked up"):
        found = connection.execute(statement("watched_source"), wanted).fetchone()
    query, is_filled = found or (None, None)
    if query is None:
        raise SourceError(
            f"collection {collection.name!r} follows no table, or one that is gone: give the source by "
            "--query or --file"
        )
    if not is_filled:
        raise SourceError(
            f"workers are still reading the table that collection {collection.name!r} follows; `embedq watch "
            "list` says how far they are"
        )
    return Source(sql.SQL(query), _COLUMNS - {"version"}, is_narrow=True)


def listed(*, has_metadata: bool) -> Source:
    """What ``list_items`` has put into the session's temporary table."""
    query = sql.SQL(statement("listed").rstrip(";"))
    return Source(query, _COLUMNS if has_metadata else _COLUMNS - {"metadata"})


@contextmanager
def source_errors() -> Iterator[None]:
    """Turn the driver's errors about a source into ours; of an error about a value nothing is quoted."""
    try:
        with store_errors("the source was not read"):
            yield
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, errors.DataError):
            raise SourceError(
                f"the source was not read: a value of it is not what it should be (SQLSTATE {cause.sqlstate})"
            ) from None
        if isinstance(cause, psycopg.ProgrammingError):
            raise SourceError(f"the source was not read: {cause.diag.message_primary}") from cause
        raise
