"""Requests and tokens a minute, each alone and together."""

from __future__ import annotations

from embedq_worker.limiter.exchange import Limits
from tests.simulation.fleet import Fleet
from tests.simulation.report import Report
from tests.simulation.scenarios.bed import ENDLESS, Meter, fleet, queue
from tests.simulation.service import Service
from tests.simulation.size import Size
from tests.simulation.world import Queue, World

_CONCURRENCY = 400
_TOKENS = 1_000
"""In a request, about."""
_FIRST_MINUTE = 62.0


def run(url: str, size: Size) -> list[Report]:
    """The services count as exactly as services can: no 61st second is like the first."""
    requests, tokens = size.rate_requests, size.rate_requests * _TOKENS
    few = max(4, size.rate_processes // 5)
    return [
        _run_one(url, size, "requests", few, Limits(_CONCURRENCY, requests), _even()),
        _run_one(url, size, "tokens", few, Limits(_CONCURRENCY, None, tokens), _estimated()),
        _run_one(
            url, size, "both", size.rate_processes, Limits(_CONCURRENCY, requests, tokens * 9 // 10), _mixed()
        ),
    ]


def _run_one(url: str, size: Size, name: str, processes: int, limits: Limits, queues: list[Queue]) -> Report:
    requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
    allowed = f"{_number(requests)} requests and {_number(tokens)} tokens a minute"
    report = Report(f"rates, {name}: {processes} processes, {allowed}")
    with fleet(url, size.seed, in_hand=4) as where:
        world = _world(where, name, limits, queues)
        where.start_all(processes, [world])
        where.agenda.run(_FIRST_MINUTE)
        meter = Meter(where, world)
        before = _done(world)
        where.agenda.run(_FIRST_MINUTE + size.rate_seconds)
        minutes = size.rate_seconds / 60
        done, done_tokens = (after - first for after, first in zip(_done(world), before, strict=True))
        shares = [done / minutes / requests] if requests else []
        shares += [done_tokens / minutes / tokens] if tokens else []
        report.add("of the scarcer limit, used", max(shares), "{:.2%}", at_least=0.95)
        report.add("429s, of all calls", world.service.share(429), "{:.3%}", at_most=0.001)
        report.add_promises(world)
        meter.add_redis(report)
    return report


def _world(where: Fleet, name: str, limits: Limits, queues: list[Queue]) -> World:
    service = Service(
        where.agenda,
        where.rng,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
    )
    return World(where.agenda, name, limits, service, queues)


def _done(world: World) -> tuple[int, int]:
    return (
        sum(queue.done for queue in world.queues.values()),
        sum(queue.done_tokens for queue in world.queues.values()),
    )


def _number(limit: int | None) -> str:
    return "any" if limit is None else f"{limit:,}"


def _even() -> list[Queue]:
    return [queue("bulk", "docs", ENDLESS)]


def _estimated() -> list[Queue]:
    return [queue("bulk", "docs", ENDLESS, tokens=_TOKENS, error=0.02, margin=0.02)]


def _mixed() -> list[Queue]:
    return [
        queue("bulk", "short", ENDLESS, tokens=300, error=0.02, margin=0.02),
        queue("live", "long", ENDLESS, tokens=1800, error=0.02, margin=0.02),
    ]
