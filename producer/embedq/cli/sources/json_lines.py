"""JSON Lines read as items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from embedq.cli.sources.files import MAX_LINE_BYTES, File, Lines
from embedq.cli.sources.mapping import Mapping
from embedq.cli.sources.source import Position, Source
from embedq.errors import InvalidItem


class LineSource(Source):
    """A file that is read line by line. Its positions are an offset in bytes and a line's number."""

    unit = "line"

    def __init__(self, file: File, mapping: Mapping | None) -> None:
        super().__init__(file.name, mapping)
        self.total = file.size
        self.is_resumable = file.is_regular
        self._file = file
        self._lines = Lines(file)

    @property
    def place(self) -> str:
        """The number of the line last read, from 1."""
        return str(self._lines.number)

    @property
    def done(self) -> int:
        """Bytes of the file."""
        return self._file.read

    @property
    def position(self) -> Position:
        """Offset and number of the line last read."""
        return [self._lines.offset, self._lines.number]

    def go_to(self, position: Position) -> None:
        """Go on behind the line of ``position``."""
        assert isinstance(position, list)
        self._lines.go_to(*position)

    def identity(self) -> dict[str, str]:
        """The file's."""
        return self._file.identity()

    def state(self) -> dict[str, str | int]:
        """The file's."""
        return self._file.state()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JSONLines(LineSource):
    """An object a line; blank lines are passed over."""

    def _rows(self) -> Iterator[dict[str, Any] | InvalidItem]:
        while line := self._lines.next():
            if len(line) > MAX_LINE_BYTES:
                yield InvalidItem(None, "line_too_long", "the line is longer than 8 MiB")
            elif not line.isspace():
                yield _decode(line)


def _decode(line: bytes) -> dict[str, Any] | InvalidItem:
    """The line's object. msgspec's messages name a place, never the content."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = (
            str(error) if isinstance(error, msgspec.DecodeError) else "it is not UTF-8, or nested too deeply"
        )
        return InvalidItem(None, "not_json", reason[:1].lower() + reason[1:])
    if not isinstance(value, dict):
        return InvalidItem(None, "item_type", "the line is not a JSON object")
    return value
