"""CSV and TSV: a header, then a record a row; RFC 4180, UTF-8."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import click

from embedq.cli.sources.files import MAX_LINE_BYTES, File, Lines
from embedq.cli.sources.json_lines import LineSource
from embedq.cli.sources.mapping import Mapping
from embedq.errors import EmbedqError, InvalidItem


class _Texts:
    """The lines as text. Going on after an error is possible: it is no generator.

    Bytes that are no UTF-8 become lone surrogates, which the rules for ids, texts and metadata refuse.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __iter__(self) -> _Texts:
        return self

    def __next__(self) -> str:
        line = self._lines.next()
        if not line:
            raise StopIteration
        if len(line) > MAX_LINE_BYTES:
            raise InvalidItem(None, "line_too_long", "the line is longer than 8 MiB")
        return line.decode("utf-8", "surrogateescape")


class Delimited(LineSource):
    """Records with fields between delimiters. A position is behind a record, never within one."""

    def __init__(self, file: File, mapping: Mapping, delimiter: str) -> None:
        super().__init__(file, mapping)
        csv.field_size_limit(MAX_LINE_BYTES)
        self._delimiter = delimiter
        self._records = csv.reader(_Texts(self._lines), delimiter=delimiter, strict=True)
        self._first_line = 1
        self._columns = self._header()
        mapping.check(self._columns, file.name)

    @property
    def place(self) -> str:
        """The number of the line where the row last read begins."""
        return str(self._first_line)

    def shape(self) -> dict[str, str | int]:
        """The delimiter too."""
        return {**super().shape(), "delimiter": self._delimiter}

    def _rows(self) -> Iterator[dict[str, Any] | InvalidItem]:
        while True:
            self._first_line = self._lines.number + 1
            try:
                fields = next(self._records)
            except StopIteration:
                return
            except (csv.Error, InvalidItem) as error:
                yield self._bad(error)
            else:
                if fields:  # no blank line
                    yield self._row(fields)

    def _row(self, fields: list[str]) -> dict[str, Any] | InvalidItem:
        if len(fields) != len(self._columns):
            explanation = f"the row has {len(fields)} fields, the header {len(self._columns)}"
            return InvalidItem(None, "field_count", explanation)
        return dict(zip(self._columns, fields, strict=True))

    def _bad(self, error: csv.Error | InvalidItem) -> InvalidItem:
        """Messages of ``csv`` quote no content."""
        if isinstance(error, InvalidItem):
            return error
        if "field limit" in str(error):
            raise EmbedqError(
                f"{self.name}:{self._first_line}: a field is longer than 8 MiB: is its quote ever closed? "
                "What follows cannot be told apart"
            ) from None
        return InvalidItem(None, "not_csv", str(error))

    def _header(self) -> list[str]:
        try:
            return next(self._records, [])
        except (csv.Error, InvalidItem) as error:
            raise click.UsageError(
                f"{self.name}: the header cannot be read: {self._bad(error).explanation}"
            ) from None
