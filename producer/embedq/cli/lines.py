"""JSON Lines read as items, with the numbers of the bad lines kept and never their text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from embedq.errors import InvalidItem

MAX_LINE_BYTES = 8 << 20
"""Longer lines cannot hold an item of 1 MiB, even with every character escaped; they are passed over."""
_BOM = b"\xef\xbb\xbf"


class Lines:
    """Yields the object of each good line; gives each bad one's number and reason to ``on_bad``.

    ``number`` is that of the line last read, from 1; ``bytes_read`` counts towards the file's size.
    """

    def __init__(self, stream: BinaryIO, on_bad: Callable[[int, str], None]) -> None:
        self.number = 0
        self.bytes_read = 0
        self._stream = stream
        self._on_bad = on_bad

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while line := self._next_line():
            if len(line) > MAX_LINE_BYTES:
                self._on_bad(self.number, "the line is longer than 8 MiB (line_too_long)")
                continue
            if self.number == 1:
                line = line.removeprefix(_BOM)
            if line.isspace() or not line:
                continue
            try:
                yield _decode(line)
            except InvalidItem as error:
                self._on_bad(self.number, f"{error.explanation} ({error.rule})")

    def reject(self, error: InvalidItem) -> None:
        """Count the line last read as bad: its item breaks a rule."""
        self._on_bad(self.number, f"{error.explanation} ({error.rule})")

    def _next_line(self) -> bytes:
        line = self._stream.readline(MAX_LINE_BYTES + 1)
        self.number += bool(line)
        self.bytes_read += len(line)
        last = line
        while len(last) > MAX_LINE_BYTES and not last.endswith(b"\n"):
            last = self._stream.readline(MAX_LINE_BYTES + 1)
            self.bytes_read += len(last)
        return line


def _decode(line: bytes) -> dict[str, Any]:
    """The line's object. msgspec's messages name a place, never the content."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = (
            str(error) if isinstance(error, msgspec.DecodeError) else "it is not UTF-8, or nested too deeply"
        )
        raise InvalidItem(None, "not_json", reason[:1].lower() + reason[1:]) from None
    if not isinstance(value, dict):
        raise InvalidItem(None, "item_type", "the line is not a JSON object")
    return value
