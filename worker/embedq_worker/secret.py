"""Strings that must not be shown: given ones, and keys in files that may be mended while we run."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from embedq_worker.logs import get_logger

logger = get_logger(__name__)

CHECK_SECONDS = 1.0
"""At most so often is a file looked at."""

_KEY = re.compile(r"[\x21-\x7e]+")
_State: TypeAlias = tuple[int, int, int, int]


class Secret:
    """A key or password: ``reveal()`` gives it, ``repr`` and ``str`` hide it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        # One for all: what is in a file may change, and a hash may not.
        return hash(Secret)


class FileSecret(Secret):
    """A key in a file, read again when the file has changed, so that a new key needs no restart.

    What is looked at is the path: a file that is written anew, replaced, or reached through a link that now
    leads elsewhere (as Kubernetes swaps them) is noticed within a second. While the file is missing or holds
    no key, the last good key stays in use, and a warning says so once. A pipe is read once.

    The first reading raises ``OSError``, ``UnicodeDecodeError`` for what is not text, and ``ValueError`` for
    other text than a key.
    """

    __slots__ = ("_clock", "_complained", "_due", "_path", "_state")

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        # Absolute, as the process may change its folder; not resolved, as links may change.
        self._path = path.absolute()
        self._clock = clock
        self._due = clock() + CHECK_SECONDS
        self._complained = False
        self._state, value = _read(self._path)
        super().__init__(value)

    def reveal(self) -> str:
        """Give the key that is in the file now; never raises."""
        if self._state is not None and self._clock() >= self._due:
            self._due = self._clock() + CHECK_SECONDS
            try:
                self._refresh()
            except (OSError, ValueError):
                self._complain()
        return self._value

    def _refresh(self) -> None:
        state = _state(self._path.stat())
        if state is None:
            raise ValueError("not a file, and to open a pipe may take for ever")
        if state != self._state:
            self._state, value = _read(self._path)
            if value != self._value:
                logger.info(
                    "key_changed", "{path} has another key; it is used from now on", path=str(self._path)
                )
            self._value = value
        self._complained = False

    def _complain(self) -> None:
        if not self._complained:
            logger.warning(
                "key_unreadable",
                "{path} cannot be read or holds no key; put one there: the last one stays in use",
                path=str(self._path),
            )
        self._complained = True


def check_key(text: str) -> str:
    """Give the key in ``text``, without space around it; raises ``ValueError``, which does not quote it.

    A key goes into a header, where a line break or a space would say something else.
    """
    key = text.strip()
    if not _KEY.fullmatch(key):
        raise ValueError("the key is empty, or holds spaces or other than ASCII characters")
    return key


def _read(path: Path) -> tuple[_State | None, str]:
    """The state comes first: what is written while we read is another state."""
    with path.open("rb") as file:
        state = _state(os.fstat(file.fileno()))
        return state, check_key(file.read().decode())


def _state(status: os.stat_result) -> _State | None:
    """What changes with the content; None for what can be read only once, as a pipe."""
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev
