"""A pulse: when something was last heard of."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Pulse:
    """Beats while something works. May be read and beaten from any thread."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._since: float | None = self._last

    def beat(self) -> None:
        """It works."""
        self._last = self._clock()
        if self._since is None:
            self._since = self._last

    def miss(self) -> None:
        """It was asked and did not answer."""
        self._since = None

    @property
    def silence(self) -> float:
        """Seconds since the last beat, or since the start."""
        return self._clock() - self._last

    @property
    def steady(self) -> float:
        """Seconds for which it has not missed."""
        since = self._since  # once: another thread may miss a beat in between
        return 0.0 if since is None else self._clock() - since
