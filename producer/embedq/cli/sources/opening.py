"""The reader of a source, by what was asked for and the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePath

import click

from embedq.cli.sources.delimited import Delimited
from embedq.cli.sources.directory import MAPPING, Directory
from embedq.cli.sources.files import File
from embedq.cli.sources.json_lines import JSONLines
from embedq.cli.sources.mapping import Mapping
from embedq.cli.sources.options import Asked
from embedq.cli.sources.source import Source

_BY_SUFFIX = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet"}
_DELIMITERS = {"csv": ",", "tsv": "\t"}


@contextmanager
def open_source(asked: Asked) -> Iterator[Source]:
    """The source, open. Raises ``click.UsageError`` where it cannot be what was said of it."""
    with closing(_source(asked)) as source:
        yield source


def mapping_of(asked: Asked, default: Mapping) -> Mapping:
    """The columns that were named, and those of ``default`` where none were."""
    return Mapping(
        asked.id or default.id,
        asked.text or default.text,
        asked.version or default.version,
        asked.metadata or default.metadata,
    )


def _source(asked: Asked) -> Source:
    if asked.sql is not None:
        return _query(asked.sql, asked)
    assert asked.path is not None
    if Path(asked.path).is_dir():
        return Directory(asked.path, mapping_of(asked, MAPPING))
    return _file(asked.path, asked)


def _file(path: str, asked: Asked) -> Source:
    kind = asked.format or _BY_SUFFIX.get(PurePath(path.removesuffix(".gz").lower()).suffix, "jsonl")
    file = File(path)
    try:
        return _reader(kind, file, asked)
    except BaseException:
        file.close()
        raise


def _reader(kind: str, file: File, asked: Asked) -> Source:
    mapping = mapping_of(asked, Mapping())
    if kind == "parquet":
        return _parquet(file, mapping)
    if kind in _DELIMITERS:
        return Delimited(file, mapping, asked.delimiter or _DELIMITERS[kind])
    return JSONLines(file, mapping if mapping != Mapping() else None)


def _parquet(file: File, mapping: Mapping) -> Source:
    try:
        from embedq.cli.sources.parquet import Parquet
    except ModuleNotFoundError as error:
        raise _missing("Parquet", error, "parquet") from None
    return Parquet(file, mapping)


def _query(query: str, asked: Asked) -> Source:
    if not asked.database:
        raise click.UsageError("--sql needs --database, or EMBEDQ_DATABASE_URL")
    try:
        from embedq.cli.sources.sql_query import SQLQuery
    except ModuleNotFoundError as error:
        raise _missing("a query", error, "postgres") from None
    return SQLQuery(query, asked.database, mapping_of(asked, Mapping()))


def _missing(what: str, error: ModuleNotFoundError, extra: str) -> click.UsageError:
    if error.name is None or error.name.startswith("embedq"):
        raise error
    return click.UsageError(f"reading {what} needs the module {error.name}: pip install 'embedq[{extra}]'")
