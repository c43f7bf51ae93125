"""Files as streams of bytes: plain, compressed with gzip, or standard input."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import click

from embedq.errors import EmbedqError

MAX_LINE_BYTES = 8 << 20
"""Longer lines cannot hold an item of 1 MiB, even with every character escaped; they are passed over."""
_BOM = b"\xef\xbb\xbf"


class File:
    """An open file. ``stream`` gives its bytes, uncompressed; ``read`` counts those of the file itself."""

    def __init__(self, path: str) -> None:
        self.name = "<stdin>" if path == "-" else path
        self.path = path
        try:
            self._raw: BinaryIO = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 # close() closes it
        except OSError as error:
            raise click.UsageError(f"{path}: {error.strerror}") from None
        self._status = _status(self._raw)
        zipped = path.endswith(".gz")
        self.stream = cast("BinaryIO", gzip.GzipFile(fileobj=self._raw)) if zipped else self._raw

    @property
    def is_regular(self) -> bool:
        """Whether it can be read again from the middle: no pipe, no terminal."""
        return self._status is not None and self.path != "-"

    @property
    def size(self) -> int | None:
        """Bytes of a regular file; a pipe has no known size."""
        return None if self._status is None else self._status.st_size

    @property
    def read(self) -> int:
        """Bytes of it that are read, some ahead of what is used."""
        return 0 if self._status is None else self._raw.tell()

    def identity(self) -> dict[str, str]:
        """Its place."""
        return {"path": full_path(self.path)}

    def state(self) -> dict[str, str | int]:
        """Its size in bytes and its time of change in nanoseconds."""
        assert self._status is not None
        return {"size": self._status.st_size, "modified": self._status.st_mtime_ns}

    def close(self) -> None:
        """Close it; standard input stays."""
        if self.path != "-":
            self.stream.close()
            self._raw.close()


def full_path(path: str) -> str:
    """The whole path, as JSON may hold it: a name that is no UTF-8 with its bytes escaped."""
    return os.fsencode(Path(path).resolve()).decode("utf-8", "backslashreplace")


def _status(stream: BinaryIO) -> os.stat_result | None:
    """Of a regular file; None of a pipe, a terminal, and what a program put in place of standard input."""
    try:
        status = os.fstat(stream.fileno())
    except io.UnsupportedOperation:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


class Lines:
    """The lines of a file as bytes, in bounded memory. ``number`` is that of the line last read, from 1."""

    def __init__(self, file: File) -> None:
        self.number = 0
        self.offset = 0
        """Of the next line, in uncompressed bytes."""
        self._file = file

    def next(self) -> bytes:
        """The next line with its end; empty at the end. One longer than ``MAX_LINE_BYTES`` comes cut."""
        line = self._readline()
        self.number += bool(line)
        last = line
        while len(last) > MAX_LINE_BYTES and not last.endswith(b"\n"):
            last = self._readline()
        return line.removeprefix(_BOM) if self.number == 1 else line

    def go_to(self, offset: int, number: int) -> None:
        """Have the next line be the one after ``number``, which begins at ``offset``."""
        self._file.stream.seek(offset)
        self.offset, self.number = offset, number

    def _readline(self) -> bytes:
        try:
            line = self._file.stream.readline(MAX_LINE_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            reason = (
                error.strerror if isinstance(error, OSError) and error.strerror else "it is cut or damaged"
            )
            raise unreadable(f"{self._file.name}, after line {self.number}", reason) from error
        self.offset += len(line)
        return line


def unreadable(where: str, reason: str) -> EmbedqError:
    """The error for a source that breaks off."""
    return EmbedqError(f"{where}: it cannot be read: {reason}")
