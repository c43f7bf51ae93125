"""Looks at something again and again, beside what is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Sampler:
    """Calls ``look`` every so many seconds, in a thread, for the length of a ``with`` block.

    An error of ``look`` is raised at the block's end.
    """

    def __init__(self, every: float, look: Callable[[], None]) -> None:
        self._every = every
        self._look = look
        self._ended = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                self._look()
                due = max(due + self._every, time.monotonic())
        except Exception as error:
            self._error = error
