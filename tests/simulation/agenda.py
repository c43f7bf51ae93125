"""Virtual time: what happens next, in order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[], object]


class Agenda:
    """Events by time, and by entry where times are equal. Seconds since the beginning."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Action]] = []
        self._numbers = count()

    def at(self, when: float, action: Action) -> None:
        """Have it happen then; now, if that has passed."""
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), action))

    def after(self, delay: float, action: Action) -> None:
        """Have it happen so much later."""
        self.at(self.now + delay, action)

    def every(self, interval: float, action: Action) -> None:
        """Have it happen again and again, first after one interval."""

        def again() -> None:
            action()
            self.after(interval, again)

        self.after(interval, again)

    def run(self, until: float) -> None:
        """Let everything happen up to that time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until

    def run_while(self, goes_on: Callable[[], bool], until: float, step: float = 0.25) -> None:
        """Let everything happen while that holds, asked once a step, and not beyond a time."""
        while self.now < until and goes_on():
            self.run(min(until, self.now + step))
