"""An independent look at who holds calls of a fleet on virtual time."""

from __future__ import annotations

from embedq_worker.limiter.exchange import Reply, Request
from tests.support.fleet import Fleet, Process

_TIE = 0.001 + 1e-6
"""The script counts whole milliseconds, rounded down: a lease that lapses within this one may have lapsed."""


class Watch:
    """Calls whose process has renewed them in time; who was silent for longer holds nothing that counts."""

    def __init__(self, fleet: Fleet, limit: int) -> None:
        self.most = 0
        self._fleet = fleet
        self._limit = limit
        self._lapses: dict[str, float] = {}
        fleet.on_heard = self._heard
        fleet.on_grant = lambda _, grant: self._add(grant.holder)

    def count(self) -> int:
        """Calls in flight of live holders."""
        held = {holder for process in self._fleet.processes for holder in process.position.holding}
        self._lapses = {
            holder: lapses
            for holder, lapses in self._lapses.items()
            if lapses > self._fleet.now + _TIE and holder in held
        }
        return len(self._lapses)

    def _heard(self, process: Process, request: Request, _: Reply) -> None:
        for holder in request.renew:
            if self._lapses.get(holder, 0) > self._fleet.now:
                self._lapses[holder] = self._fleet.now + self._fleet.lease
        assert process.is_up

    def _add(self, holder: str) -> None:
        self._lapses[holder] = self._fleet.now + self._fleet.lease
        self.most = max(self.most, self.count())
        assert self.most <= self._limit
