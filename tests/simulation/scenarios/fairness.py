"""Turns between collections, and between lanes."""

from __future__ import annotations

from collections.abc import Sequence

from embedq_worker.limiter.exchange import Flow, Limits
from tests.simulation.fleet import Fleet
from tests.simulation.report import Report
from tests.simulation.scenarios.bed import ENDLESS, Meter, fleet, queue
from tests.simulation.service import Service
from tests.simulation.size import Size
from tests.simulation.world import Queue, World

_LIMIT = 20
_LATENCY = 0.5
_LONG = 1.0


def run(url: str, size: Size) -> list[Report]:
    """Zipf-distributed backlogs, then floods of one lane against others."""
    collections = [_run_collections(url, size, number) for number in (10, 30, 100)]
    return [
        *collections,
        _run_shares(url, size),
        _run_lanes(url, size),
        _run_queries(url, size),
        _run_distant_queries(url, size),
    ]


def max_min_finish(sizes: Sequence[float], rate: float) -> list[float]:
    """When each of them would be done if all that are not done shared ``rate`` evenly at any moment."""
    finish = [0.0] * len(sizes)
    now = done = 0.0
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for rank, number in enumerate(order):
        now += (sizes[number] - done) * (len(sizes) - rank) / rate
        done = sizes[number]
        finish[number] = now
    return finish


def zipf(total: int, number: int) -> list[int]:
    """Sizes in proportion to 1, 1/2, 1/3 …"""
    whole = sum(1 / rank for rank in range(1, number + 1))
    return [max(1, round(total / whole / rank)) for rank in range(1, number + 1)]


def _run_collections(url: str, size: Size, number: int) -> Report:
    sizes = zipf(size.fair_calls, number)
    report = Report(
        f"fairness: {number} collections, {sizes[0]:,} to {sizes[-1]} requests, "
        f"{size.fair_processes} processes, limit {_LIMIT}"
    )
    with fleet(url, size.seed) as where:
        queues = [queue("bulk", f"docs_{at}", calls) for at, calls in enumerate(sizes)]
        world = _world(where, _LATENCY, queues)
        meter = Meter(where, world)
        where.start_all(size.fair_processes, [world], within=0.05)
        where.agenda.run_while(lambda: world.has_work, 10_000)
        made = max(q.finished_at for q in queues)
        ideal = max_min_finish(sizes, sum(sizes) / made)
        ratios = [q.finished_at / (fair + _LATENCY) for q, fair in zip(queues, ideal, strict=True)]
        report.add("all done after, s", made, "{:.1f}")
        report.add("longest finish, of the fair one", max(ratios), "{:.2f}", at_most=2.0)
        report.add("shortest finish, of the fair one", min(ratios), "{:.2f}")
        report.add("slots in use", sum(sizes) * _mean(_LATENCY) / made / _LIMIT, "{:.1%}")
        report.add_promises(world)
        meter.add_redis(report)
    return report


def _run_shares(url: str, size: Size) -> Report:
    report = Report(f"shares: ten collections without end, 200 to 2,000 tokens a request, limit {_LIMIT}")
    with fleet(url, size.seed) as where:
        queues = [queue("bulk", f"docs_{at}", ENDLESS, tokens=200 * (at + 1)) for at in range(10)]
        world = _world(where, _LATENCY, queues)
        where.start_all(size.fair_processes, [world], within=0.05)
        where.agenda.run(size.lane_seconds)
        tokens = [q.done_tokens for q in queues]
        fair = sum(tokens) / len(tokens)
        report.add("least tokens, of the fair share", min(tokens) / fair, "{:.2f}", at_least=0.9)
        report.add("most tokens, of the fair share", max(tokens) / fair, "{:.2f}", at_most=1.1)
        report.add_promises(world)
    return report


def _run_lanes(url: str, size: Size) -> Report:
    report = Report(
        f"lanes: floods of live and bulk, queries 2 a second, limit {_LIMIT}, calls of {_LONG:.0f} s"
    )
    with fleet(url, size.seed) as where:
        queues = [
            queue("live", "docs", ENDLESS),
            queue("bulk", "docs", ENDLESS),
            queue("query", "docs", tokens=20),
        ]
        world = _world(where, _LONG, queues)
        where.start_all(size.fair_processes, [world], within=0.05)
        where.agenda.run(2)
        where.arrivals(world, "query", "docs", 2.0)
        before = [q.done for q in queues]
        where.agenda.run(2 + size.lane_seconds)
        live, bulk, query = (q.done - first for q, first in zip(queues, before, strict=True))
        report.add("bulk, of all calls", bulk / (live + bulk + query), "{:.2%}", at_least=0.045, at_most=0.06)
        _add_waits(report, queues[2])
        report.add_promises(world)
    return report


def _run_queries(url: str, size: Size) -> Report:
    report = Report(f"queries under a bulk flood: 2 a second, limit {_LIMIT}, calls of {_LONG:.0f} s")
    with fleet(url, size.seed) as where:
        queues = [queue("bulk", "docs", ENDLESS), queue("query", "docs", tokens=20)]
        world = _world(where, _LONG, queues)
        where.start_all(size.fair_processes, [world], within=0.05)
        where.agenda.run(2)
        where.arrivals(world, "query", "docs", 2.0)
        where.agenda.run(2 + size.lane_seconds)
        _add_waits(report, queues[1])
        report.add_promises(world)
    return report


def _run_distant_queries(url: str, size: Size) -> Report:
    report = Report(
        f"queries at a process, all {_LIMIT} slots held for bulk by another one, calls of {_LONG:.0f} s"
    )
    with fleet(url, size.seed, in_hand=64) as where:
        queues = [queue("bulk", "docs", ENDLESS), queue("query", "docs", tokens=20)]
        world = _world(where, _LONG, queues)
        holder = where.start([world])
        where.agenda.run(2)
        where.in_hand_of[holder.name] = where.in_hand
        where.in_hand = 0
        asking = where.start([world])
        where.arrivals(world, "query", "docs", 2.0, among=[asking])
        where.agenda.run(2 + size.lane_seconds)
        _add_waits(report, world.queues[Flow("query", "docs")])
        report.add_promises(world)
    return report


def _world(where: Fleet, latency: float, queues: list[Queue]) -> World:
    return World(
        where.agenda, "shared", Limits(_LIMIT), Service(where.agenda, where.rng, latency=latency), queues
    )


def _mean(latency: float) -> float:
    """Of the service's lognormal distribution, with both ways."""
    return latency * 1.046 + 0.02


def _add_waits(report: Report, queries: Queue) -> None:
    waits = sorted(queries.waits)
    report.add("queries", len(waits), at_least=1)
    report.add("a query waits, median, s", waits[len(waits) // 2], "{:.3f}")
    report.add("a query waits, p99, s", waits[int(len(waits) * 0.99)], "{:.3f}", at_most=_LONG + 0.05)
