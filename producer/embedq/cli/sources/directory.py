"""A directory of text and Markdown files: one item a file, its id the path within the directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from embedq.cli.sources.files import full_path, unreadable
from embedq.cli.sources.mapping import Mapping
from embedq.cli.sources.source import Position, Source
from embedq.contract import MAX_MESSAGE_BYTES
from embedq.errors import InvalidItem

SUFFIXES = (".md", ".markdown", ".text", ".txt")
MAPPING = Mapping(id="path", metadata=("path", "size", "modified"))
_COLUMNS = ["path", "text", "size", "modified"]


class Directory(Source):
    """Its files in the order of their paths. A position is the path of the last one.

    Hidden files and folders are passed over, and links are not followed. It is walked once when it is
    opened, to see how many there are and what state they are in.
    """

    unit = "file"

    def __init__(self, path: str, mapping: Mapping) -> None:
        super().__init__(path, mapping)
        mapping.check(_COLUMNS, path)
        self._folder = Path(path)
        self._path = ""
        self._done = 0
        self._last: str | None = None
        self._state = self._survey()

    @property
    def place(self) -> str:
        """The path of the file last read."""
        return self._path

    @property
    def done(self) -> int:
        """Files."""
        return self._done

    @property
    def position(self) -> Position | None:
        """The path of the file last read; names that are no UTF-8 are none, and are bad rows."""
        return self._last

    def go_to(self, position: Position) -> None:
        """Go on behind the file of this path."""
        self._last = str(position)

    def identity(self) -> dict[str, str]:
        """Its place."""
        return {"path": full_path(self.name)}

    def state(self) -> dict[str, str | int]:
        """The number of its files, and a digest of their paths, sizes and times of change."""
        return self._state

    def _rows(self) -> Iterator[dict[str, Any] | InvalidItem]:
        start = self._last
        for path, entry in _walk(self._folder, ""):
            self._done += 1
            if start is None or path > start:
                self._path = path
                self._last = path if _is_unicode(path) else self._last
                yield _read(path, entry)

    def _survey(self) -> dict[str, str | int]:
        digest = blake2b(digest_size=16)
        self.total = 0
        for path, entry in _walk(self._folder, ""):
            digest.update(f"{path}\0{_state(entry)}\0".encode(errors="surrogateescape"))
            self.total += 1
        return {"files": self.total, "digest": digest.hexdigest()}


def _state(entry: os.DirEntry[str]) -> str:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:  # it is gone again
        return ""
    return f"{status.st_size}\0{status.st_mtime_ns}"


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files below a folder, in the order of their paths as strings."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((_key(entry), entry) for entry in entries if _is_wanted(entry))
    except OSError as error:
        raise unreadable(os.fspath(folder), str(error.strerror)) from None
    for key, entry in found:
        if key.endswith("/"):
            yield from _walk(folder / entry.name, prefix + key)
        else:
            yield prefix + key, entry


def _key(entry: os.DirEntry[str]) -> str:
    """With its slash a folder sorts where its files do."""
    return entry.name + "/" * entry.is_dir(follow_symlinks=False)


def _is_wanted(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith("."):
        return False
    is_text = entry.name.lower().endswith(SUFFIXES)
    return entry.is_dir(follow_symlinks=False) or (is_text and entry.is_file(follow_symlinks=False))


def _is_unicode(path: str) -> bool:
    return os.fsencode(path).decode("utf-8", "replace") == path


def _read(path: str, entry: os.DirEntry[str]) -> dict[str, Any] | InvalidItem:
    try:
        status = entry.stat(follow_symlinks=False)
        if status.st_size > MAX_MESSAGE_BYTES:
            return InvalidItem(
                path, "item_too_large", f"it has {status.st_size} bytes, at most {MAX_MESSAGE_BYTES}"
            )
        text = Path(entry.path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        return InvalidItem(path, "file_unreadable", f"it cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return InvalidItem(path, "text_not_unicode", "it is not UTF-8")
    modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
    return {"path": path, "text": text, "size": status.st_size, "modified": modified}
