"""What processes cost Redis that have nothing to do, or must wait."""

from __future__ import annotations

from embedq_worker.limiter.exchange import Limits
from tests.simulation.fleet import Fleet
from tests.simulation.report import Report
from tests.simulation.scenarios.bed import ENDLESS, fleet, queue
from tests.simulation.service import Service, Trouble
from tests.simulation.size import Size
from tests.simulation.world import Work, World

_COLLECTIONS = 50
_PROCESSES = 10
_WARM = 30.0
_SECONDS = 60.0


def run(url: str, size: Size) -> list[Report]:
    """Limiter's commands alone: the fetch of messages has its own."""
    report = Report(f"idle: {_COLLECTIONS} collections of one model, commands a second and process")
    report.add("nothing to do, after work", _commands(url, size, calls=3, trouble=None), "{:.2f}", at_most=1)
    waiting = _commands(url, size, calls=ENDLESS, trouble=Trouble(0, 1e9, 401))
    report.add("all collections wait, the model is paused", waiting, "{:.2f}", at_most=10)
    lasting = _commands(url, size, calls=0, trouble=None, lasting=True)
    report.add("one call of an hour in flight", lasting, "{:.2f}", at_most=3)
    return [report]


def _commands(url: str, size: Size, *, calls: int, trouble: Trouble | None, lasting: bool = False) -> float:
    with fleet(url, size.seed, in_hand=1) as where:
        world = _world(where, calls, [trouble] if trouble else [], lasting)
        for _ in range(_PROCESSES):
            process = where.start([world])
            if lasting:
                process.desks[world.name].add(Work(queue("bulk", "docs_0").flow, 0.0))
        where.agenda.run(_WARM)
        before = where.server.exchanges + where.looks
        where.agenda.run(_WARM + _SECONDS)
        return (where.server.exchanges + where.looks - before) / _SECONDS / _PROCESSES


def _world(where: Fleet, calls: int, troubles: list[Trouble], lasting: bool) -> World:
    queues = [queue("bulk", f"docs_{number}", calls) for number in range(_COLLECTIONS)]
    service = Service(
        where.agenda, where.rng, latency=3600 if lasting else 0.2, spread=0.0, troubles=troubles
    )
    return World(where.agenda, "idle", Limits(200), service, queues)
