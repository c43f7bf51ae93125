"""A service that allows fewer calls at once than are configured, and does not say so."""

from __future__ import annotations

from statistics import median

from embedq_worker.limiter.exchange import Limits
from tests.simulation.report import Report
from tests.simulation.scenarios.bed import Meter, bulk_world, fleet
from tests.simulation.service import Service
from tests.simulation.size import Size

_CONFIGURED, _ALLOWED = 64, 12
_LEARNING = 30.0


def run(url: str, size: Size) -> list[Report]:
    """64 are configured, 12 are allowed."""
    report = Report(
        f"silent limit: {_ALLOWED} of {_CONFIGURED}, {size.silent_processes} processes, calls of 0.5 s"
    )
    with fleet(url, size.seed) as where:
        service = Service(where.agenda, where.rng, hidden=_ALLOWED)
        world = bulk_world(where, "silent", Limits(_CONFIGURED), service)
        limits: list[tuple[float, float]] = []

        def look() -> None:
            limit = where.server.state("silent").get("limit", str(_CONFIGURED))
            limits.append((where.agenda.now, int(float(limit) + 1e-9)))

        where.agenda.every(0.25, look)
        where.start_all(size.silent_processes, [world], within=0.1)
        where.agenda.run(_LEARNING)
        meter = Meter(where, world)
        refused, calls = service.statuses.get(429, 0), len(service.arrived)
        where.agenda.run(size.silent_seconds)
        later = [limit for at, limit in limits if at >= _LEARNING]
        report.add("first at 12 or less after, s", _first_low(limits), "{:.2f}", at_most=_LEARNING)
        report.add("median limit after 30 s", median(later), "{:.1f}", at_least=10, at_most=_ALLOWED)
        report.add(
            "of the time at 10 to 12", sum(10 <= limit <= 12 for limit in later) / len(later), "{:.1%}"
        )
        share = (service.statuses.get(429, 0) - refused) / max(1, len(service.arrived) - calls)
        report.add("429s after 30 s, of all calls", share, "{:.2%}", at_most=0.01)
        report.add("429s before", refused)
        report.add("of the allowed slots, in use", meter.utilisation(world, _ALLOWED), "{:.1%}")
        report.add_promises(world)
    return [report]


def _first_low(limits: list[tuple[float, float]]) -> float:
    return next((at for at, limit in limits if limit <= _ALLOWED), float("inf"))
