"""A large fleet with more work than slots."""

from __future__ import annotations

from functools import partial

from embedq_worker.limiter.exchange import Limits
from tests.simulation.fleet import Fleet
from tests.simulation.report import Report
from tests.simulation.scenarios.bed import ENDLESS, Meter, fleet, queue
from tests.simulation.service import Service
from tests.simulation.size import Size
from tests.simulation.world import World

_LOWEST, _HIGHEST = 50, 500
_MODELS_A_PROCESS = 2
_WARM = 6.0


def run(url: str, size: Size) -> list[Report]:
    """Each process has work for two models; each service allows exactly what is configured."""
    report = Report(
        f"steady: {size.steady_processes:,} processes, {size.steady_models} models, "
        f"limits {_LOWEST} to {_HIGHEST}, calls of 3 s, three collections each"
    )
    with fleet(url, size.seed) as where:
        worlds = [_world(where, number, size.steady_models) for number in range(size.steady_models)]
        for number in range(size.steady_processes):
            chosen = where.rng.sample(worlds, min(_MODELS_A_PROCESS, len(worlds)))
            where.agenda.at(2.0 * number / size.steady_processes, partial(where.start, chosen))
        where.agenda.run(_WARM)
        meter = Meter(where, *worlds)
        where.agenda.run(_WARM + size.steady_seconds)
        shares = [meter.utilisation(world) for world in worlds]
        slots = sum(world.limits.max_concurrency for world in worlds)
        used = sum(world.audit.live.mean() for world in worlds) / slots
        report.add("slots", slots)
        report.add("calls a second", sum(w.service.statuses.get(200, 0) for w in worlds) / where.agenda.now)
        report.add("slots in use", used, "{:.1%}", at_least=0.95)
        report.add("slots in use, least of a model", min(shares), "{:.1%}")
        report.add("429s, of all calls", max(w.service.share(429) for w in worlds), "{:.3%}", at_most=0.001)
        report.add(
            "grants not used",
            sum(w.unused for w in worlds) / max(1, sum(w.granted for w in worlds)),
            "{:.2%}",
        )
        report.add_promises(*worlds)
        meter.add_redis(report)
    return [report]


def _world(where: Fleet, number: int, models: int) -> World:
    limit = _LOWEST + (_HIGHEST - _LOWEST) * number // max(1, models - 1)
    service = Service(where.agenda, where.rng, latency=3.0, hidden=limit)
    queues = [queue("bulk", f"docs_{letter}", ENDLESS) for letter in "abc"]
    return World(where.agenda, f"model-{number}", Limits(limit), service, queues)
