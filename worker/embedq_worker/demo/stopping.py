"""Ctrl-C and SIGTERM while servers run: never in the middle of starting or stopping one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN = 0.01
"""Seconds until what was swallowed is raised again."""


class Stopped(KeyboardInterrupt):
    """A signal asked to stop. Psycopg cancels the statement that a ``KeyboardInterrupt`` interrupts."""


class StopSignals:
    """A context manager that notes the first signal and raises ``Stopped`` for it inside ``interruptible``.

    Elsewhere nothing is raised, and later signals change nothing: what is being started gets its owner
    first, and the clean-up goes on to its end. Only for the main thread.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._raising = False
        self._previous: dict[signal.Signals, signal._HANDLER] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> Self:
        self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._raise_again)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._swallowed
        for number in _SIGNALS:
            # `nohup` ignores it for its programs.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = self._hook
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A part that a signal ends at once, also one that came before. Raises ``Stopped``."""
        self._raising = True
        try:
            if self.received is not None:
                raise Stopped
            yield
        finally:
            self._raising = False

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            if self._raising:
                raise Stopped

    def _swallowed(self, ignored: sys.UnraisableHookArgs) -> None:
        """Python ignores what is raised in a ``__del__``, where a signal may come as well."""
        if issubclass(ignored.exc_type, Stopped):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            self._hook(ignored)

    def _raise_again(self, _: int, __: FrameType | None) -> None:
        if self._raising:
            raise Stopped
