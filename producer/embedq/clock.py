"""The broker's clock, and the versions made from it.

Versions of a ``clock`` collection are microseconds since the epoch by the broker's clock, so that producers
on hosts with differing clocks still order their writes by one. Between measurements the host's monotonic
clock carries on, so a step of the wall clock (NTP, an operator) moves no version.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from embedq.steps import Command, Steps

REMEASURE_SECONDS = 60.0
"""Age at which the offset is measured again: after a suspended host or a fail-over it is another."""
_SAMPLES = 3


def monotonic_us() -> int:
    """Microseconds of the host's monotonic clock."""
    return time.monotonic_ns() // 1000


class BrokerClock:
    """The broker's time by the local clock and a measured offset; safe to share between threads.

    ``local`` gives microseconds of a clock that never goes back.
    """

    def __init__(self, local: Callable[[], int] = monotonic_us) -> None:
        self._local = local
        self._lock = threading.Lock()
        self._offset = 0
        self._measured_at: int | None = None
        self._last_version = 0

    @property
    def stale(self) -> bool:
        """Whether the offset was never measured, or ``REMEASURE_SECONDS`` ago."""
        measured_at = self._measured_at
        return measured_at is None or self._local() - measured_at > REMEASURE_SECONDS * 1e6

    def measure(self) -> Steps[None]:
        """Measure the offset.

        The broker read its clock about half a round trip before the answer came; of several samples the one
        with the shortest round trip errs least.
        """
        best = yield from self._sample()
        for _ in range(_SAMPLES - 1):
            best = min(best, (yield from self._sample()))
        with self._lock:
            _, self._offset = best
            self._measured_at = self._local()

    def _sample(self) -> Steps[tuple[int, int]]:
        asked = self._local()
        seconds, microseconds = yield Command(("TIME",))
        broker = int(seconds) * 1_000_000 + int(microseconds)
        answered = self._local()
        return answered - asked, broker - (asked + answered) // 2

    def now(self) -> int:
        """Microseconds since the epoch by the broker's clock."""
        return self._local() + self._offset

    def next_version(self) -> int:
        """A version: now, and above every version that this clock gave before."""
        with self._lock:
            self._last_version = max(self._last_version + 1, self.now())
            return self._last_version
