"""What a collection is made from: rows with an id and a text, which a query gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors, sql

from embedq_sql import statement, template
from embedq_worker.errors import SourceError, StoreError
from embedq_worker.store.connections import Connection, store_errors

_COLUMNS = {"id", "text", "metadata", "version"}


class Source:
    """A query's rows. ``name`` says to people what it is."""

    def __init__(self, name: str, query: sql.Composable, columns: set[str]) -> None:
        self.name = name
        optional = {
            "source_metadata": sql.SQL("source.metadata::jsonb::text"),
            "source_version": sql.SQL("source.version::bigint"),
        }
        chosen = {
            column: form if column.removeprefix("source_") in columns else sql.NULL
            for column, form in optional.items()
        }
        self.rows = sql.SQL(template("source_rows")).format(source_query=query, **chosen)
        """Id, text, metadata as JSON and version, in byte order of the ids."""


def queried(connection: Connection, query: str, name: str = "the query") -> Source:
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
    return Source(name, inner, columns)


def listed() -> Source:
    """What ``Listing`` has put into the session's temporary table."""
    query = sql.SQL(statement("listed").rstrip(";"))
    return Source("the file", query, _COLUMNS)


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
