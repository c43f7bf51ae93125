"""Services that are down, refuse us, or ask to be left alone; and one beside them that is well."""

from __future__ import annotations

from itertools import pairwise

from embedq_worker.limiter.exchange import Limits
from tests.simulation.fleet import Fleet
from tests.simulation.report import Report
from tests.simulation.scenarios.bed import Meter, bulk_world, fleet
from tests.simulation.service import Service, Trouble
from tests.simulation.size import Size
from tests.simulation.world import World

_START = 10.0
_WISH = 7
_SETTLED = 1.0
"""Seconds after the breaker's opening in which calls from before may still end."""


class Witness:
    """What is seen of one troubled service, between the breaker's opening and the trouble's end."""

    def __init__(self, where: Fleet, world: World, end: float) -> None:
        self.most_at_once = 0
        self.full_at = 0.0
        self._where = where
        self._world = world
        self._end = end
        where.agenda.every(0.01, self._look)

    def _look(self) -> None:
        now, opened = self._where.agenda.now, self._world.opened_at
        if opened and opened[0] + _SETTLED < now < self._end:
            self.most_at_once = max(self.most_at_once, self._world.service.in_flight)
        if (
            now > self._end
            and not self.full_at
            and self._world.audit.live.value >= 0.9 * self._world.limits.max_concurrency
        ):
            self.full_at = now

    def add_to(self, report: Report) -> None:
        """Its figures."""
        world, end = self._world, self._end
        name = world.name
        opened = world.opened_at[0] if world.opened_at else float("inf")
        probes = [at for at in world.service.arrived if opened + _SETTLED < at < end]
        closed = next((at for at in world.closed_at if at > end), float("inf"))
        report.add(f"{name}: paused after, s", opened - _START, "{:.1f}", at_most=20)
        report.add(f"{name}: probes meanwhile", len(probes), at_least=1)
        report.add(f"{name}: probes at once, at most", self.most_at_once, at_most=1)
        report.add(f"{name}: answers again after, s", closed - end, "{:.1f}", at_most=62)
        report.add(
            f"{name}: 90 % of slots in use after, s",
            self.full_at - end if self.full_at else float("inf"),
            "{:.1f}",
        )


def run(url: str, size: Size) -> list[Report]:
    """All five models are served by the same processes."""
    end = _START + size.outage_seconds
    report = Report(
        f"outages of {size.outage_seconds:.0f} s: {size.outage_processes} processes serve all five models"
    )
    with fleet(url, size.seed) as where:
        down, broken, refuses = (
            _world(where, size.outage_limit, name, Trouble(_START, end, status))
            for name, status in (("503s", 503), ("500s", 500), ("key refused", 401))
        )
        busy = _world(
            where, size.outage_limit, "Retry-After", Trouble(_START, _START + _WISH / 2, 429, 0.02, _WISH)
        )
        well = _world(where, size.outage_limit, "well")
        witnesses = [Witness(where, world, end) for world in (down, broken, refuses)]
        where.start_all(size.outage_processes, [down, broken, refuses, busy, well])
        where.agenda.run(_START)
        meter = Meter(where, well)
        where.agenda.run(end)
        used = meter.utilisation(well)
        meter.add_redis(report)
        where.agenda.run(end + 75)
        for witness in witnesses:
            witness.add_to(report)
        report.add(
            f"Retry-After: {_WISH}: no call for, s",
            _silence(busy),
            "{:.3f}",
            at_least=_WISH - 0.05,
            at_most=_WISH + 1,
        )
        report.add("the model that is well: slots in use", used, "{:.1%}", at_least=0.95)
        report.add_promises(down, broken, refuses, busy, well)
    return [report]


def _world(where: Fleet, limit: int, name: str, *troubles: Trouble) -> World:
    service = Service(where.agenda, where.rng, troubles=list(troubles))
    return bulk_world(where, name, Limits(limit), service)


def _silence(world: World) -> float:
    """The longest time without a call."""
    arrived = world.service.arrived
    return max(after - before for before, after in pairwise(arrived))
