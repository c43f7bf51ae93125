"""The rows of a SQL query, through a cursor on the server; needs the extra ``embedq[postgres]``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import click
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from embedq.cli.sources.mapping import Mapping
from embedq.cli.sources.source import Position, Source
from embedq.errors import EmbedqError, InvalidItem

FETCH_ROWS = 1_000
"""Rows in memory at a time."""


class SQLQuery(Source):
    """A query's rows, ordered by the id's column, in one read-only transaction. A position is an id.

    Ids must be unique: a row with the id of the one before it is bad.
    """

    def __init__(self, query: str, database: str, mapping: Mapping) -> None:
        super().__init__("query", mapping)
        self._query = query.strip().rstrip(";")
        self._columns = mapping
        self._identity = _without_secrets(database)
        with _explained():
            self._connection = psycopg.connect(database, row_factory=dict_row)
        self._connection.read_only = True
        self._row = 0
        self._last: str | None = None

    @property
    def place(self) -> str:
        """The number of the row last read, from 1; counted from where the load went on."""
        return str(self._row)

    @property
    def done(self) -> int:
        """Rows."""
        return self._row

    @property
    def position(self) -> Position | None:
        """The id of the row last read."""
        return self._last

    def go_to(self, position: Position) -> None:
        """Go on with the ids behind this one."""
        self._last = str(position)

    def identity(self) -> dict[str, str]:
        """The query and its database, without user and password."""
        return {"sql": self._query, **self._identity}

    def state(self) -> dict[str, str | int]:
        """Nothing: a table has no state to compare. Rows behind the position are read as they are then."""
        return {}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _rows(self) -> Iterator[dict[str, Any] | InvalidItem]:
        with _explained(), self._connection.cursor(name="embedq_source") as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(self._statement())
            self._columns.check([column.name for column in cursor.description or ()], "the query")
            for row in cursor:
                self._row += 1
                yield self._checked(row)

    def _checked(self, row: dict[str, Any]) -> dict[str, Any] | InvalidItem:
        found = row[self._columns.id]
        item_id = None if found is None else str(found)
        if item_id is not None and item_id == self._last:
            return InvalidItem(item_id, "id_repeated", "the query has this id twice")
        self._last = item_id or self._last
        return row

    def _statement(self) -> sql.Composed:
        name = "rows.sql" if self._last is None else "rows_after.sql"
        template = resources.files(__package__).joinpath(name).read_text("utf-8")
        # Both are a person's own words on their own command line, run with their own rights, read-only.
        parts = {"asked": sql.SQL(self._query), "last_id": sql.Literal(self._last)}
        return sql.SQL(template).format(id_column=sql.Identifier(self._columns.id), **parts)


def _without_secrets(database: str) -> dict[str, str]:
    """Host, port and database's name. What libpq says of a URL that it cannot read quotes it, password and
    all; of one with a bare ``/`` or ``@`` in its password it takes a part for the port or the name.
    """
    try:
        parts = conninfo_to_dict(database)
    except psycopg.ProgrammingError:
        raise _unreadable_address() from None
    found = {name: str(parts[name]) for name in ("host", "port", "dbname") if parts.get(name)}
    ports = found.get("port", "").replace(",", "")
    if "@" in "".join(found.values()) or (ports and not ports.isdecimal()):
        raise _unreadable_address()
    return found


def _unreadable_address() -> click.UsageError:
    return click.UsageError(
        "--database cannot be read: give postgresql://user@host/name, or libpq's keywords; in a URL write "
        "the signs / @ : % of a password as %2F %40 %3A %25, or give it as PGPASSWORD"
    )


@contextmanager
def _explained() -> Iterator[None]:
    """Errors of the server as ours. Only what is wrong with the query itself is quoted: other messages may
    hold values.
    """
    try:
        yield
    except psycopg.ProgrammingError as error:
        raise click.UsageError(f"the query cannot be run: {_first_line(error)}") from None
    except psycopg.OperationalError as error:
        if error.sqlstate is None:
            raise EmbedqError(f"the database of the query cannot be reached: {_first_line(error)}") from None
        raise _refused(error) from None
    except psycopg.Error as error:
        raise _refused(error) from None


def _refused(error: psycopg.Error) -> EmbedqError:
    return EmbedqError(
        f"the database broke off the query: {type(error).__name__} (SQLSTATE {error.sqlstate})"
    )


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).partition("\n")[0]
