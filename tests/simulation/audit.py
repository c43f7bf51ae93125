"""The independent check: what the limiter promises, asked at every event."""

from __future__ import annotations

from tests.simulation.agenda import Agenda


class Level:
    """A number that changes with time, and its mean."""

    def __init__(self, agenda: Agenda) -> None:
        self.value = 0.0
        self.peak = 0.0
        self._agenda = agenda
        self._changed_at = agenda.now
        self._began_at = agenda.now
        self._area = 0.0

    def add(self, change: float) -> None:
        """Change by so much."""
        self._take_stock()
        self.value += change
        self.peak = max(self.peak, self.value)

    def begin(self) -> None:
        """Forget what was before."""
        self._take_stock()
        self._area, self._began_at, self.peak = 0.0, self._agenda.now, self.value

    def mean(self) -> float:
        """Mean over time since ``begin``."""
        self._take_stock()
        return self._area / max(1e-9, self._agenda.now - self._began_at)

    def _take_stock(self) -> None:
        self._area += self.value * (self._agenda.now - self._changed_at)
        self._changed_at = self._agenda.now


class Audit:
    """Counts calls in flight of live holders of one model, and what is more than allowed."""

    def __init__(self, agenda: Agenda, limit: int) -> None:
        self.live = Level(agenda)
        """Calls, sent or about to be, of processes that were not killed or stopped since the grant."""
        self.overshoot = 0
        """The most calls above the limit at any time."""
        self._limit = limit

    def began(self) -> None:
        """A call was granted, and will be made."""
        self.live.add(1)
        self.overshoot = max(self.overshoot, int(self.live.value) - self._limit)

    def ended(self) -> None:
        """A call ended, or its holder is not live any more."""
        self.live.add(-1)
