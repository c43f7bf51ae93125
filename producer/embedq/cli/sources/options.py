"""The command line of a source, the same for every command that reads one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

FORMATS = ("jsonl", "csv", "tsv", "parquet")
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody said of a source on the command line; None and () where nothing was said."""

    path: str | None
    sql: str | None = None
    database: str | None = None
    format: str | None = None
    delimiter: str | None = None
    id: str | None = None
    text: tuple[str, ...] = ()
    version: str | None = None
    metadata: tuple[str, ...] = ()


_OPTIONS = (
    click.argument("path", metavar="[FILE|DIRECTORY|-]", required=False),
    click.option(
        "--format",
        type=click.Choice(FORMATS),
        help="Of a file; by default its name says it, and JSON Lines are read where it does not.",
    ),
    click.option("--delimiter", help="Between the fields of a CSV file, one character.  [default: ,]"),
    click.option("--id", metavar="COLUMN", help="The column that is the id.  [default: id]"),
    click.option(
        "--text",
        metavar="COLUMN",
        multiple=True,
        help="The column that is the text; several are joined by a blank line.  [default: text]",
    ),
    click.option("--version", metavar="COLUMN", help="The column that is the version.  [default: version]"),
    click.option(
        "--metadata",
        metavar="COLUMN",
        multiple=True,
        help="A column that belongs to the metadata; may be repeated.  [default: the object in metadata]",
    ),
    click.option("--sql", metavar="QUERY", help="Read the rows of this query, ordered by their ids."),
    click.option(
        "--database",
        metavar="URL",
        envvar="EMBEDQ_DATABASE_URL",
        show_envvar=True,
        help="Where the query runs.",
    ),
)


def source_options(command: Command) -> Command:
    """The options of a source; ``asked`` makes one thing of their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked(values: dict[str, Any]) -> Asked:
    """What was asked for, as one thing. Raises ``click.UsageError`` where it is none, or two."""
    found = Asked(**values)
    if (found.path is None) == (found.sql is None):
        raise click.UsageError("give a file, a directory, - for standard input, or a query with --sql")
    if found.delimiter is not None and (len(found.delimiter) != 1 or found.delimiter in '"\r\n'):
        raise click.UsageError("--delimiter is one character, neither a quote nor the end of a line")
    return found
