"""The breaker.

While the service refuses us or is down, a model's texts wait instead of being tried in vain.
"""

from __future__ import annotations

from collections.abc import Callable

LONGEST_WISH = 300.0
"""Seconds that a service's ``Retry-After`` is believed for: a wrong one must not stop a model for a day."""


class Breaker:
    """Closed: calls are made. Open: none, until a pause is over. Probing: one at a time, until one succeeds.

    Each failed probe doubles the pause, up to ``longest`` seconds.
    """

    def __init__(self, clock: Callable[[], float], *, shortest: float = 2.0, longest: float = 60.0) -> None:
        self._clock = clock
        self._shortest = shortest
        self._longest = longest
        self._pause = shortest
        self._open_until: float | None = None
        self.reason: str | None = None
        """Why it is open or probing: the error's class and code."""

    @property
    def is_closed(self) -> bool:
        """Whether calls are made freely."""
        return self._open_until is None

    def wait(self) -> float:
        """Seconds until the next call may be made; 0 when closed or when a probe is due."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())

    def open(self, reason: str, at_least: float = 0.0) -> None:
        """Stop calling for a pause, or for ``at_least`` seconds if that is longer.

        Calls that were in flight together fail together: only the first of them begins a pause.
        """
        now = self._clock()
        at_least = min(at_least, LONGEST_WISH)
        self.reason = reason
        if self._open_until is not None and now < self._open_until:
            self._open_until = max(self._open_until, now + at_least)
            return
        self._open_until = now + max(self._pause, at_least)
        self._pause = min(self._pause * 2, self._longest)

    def close(self) -> None:
        """A call succeeded."""
        self._open_until = None
        self._pause = self._shortest
        self.reason = None
