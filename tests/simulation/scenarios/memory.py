"""Redis loses its memory while calls are in flight."""

from __future__ import annotations

from math import inf

from embedq_worker.limiter.exchange import Limits
from tests.simulation.fleet import Fleet
from tests.simulation.report import Report
from tests.simulation.scenarios.bed import Meter, bulk_world, fleet
from tests.simulation.service import Service
from tests.simulation.size import Size
from tests.simulation.world import World

_LOSS_AT = 20.3
_LEASE = 30.0


def run(url: str, size: Size) -> list[Report]:
    """A fleet that stays, one with a rate, and one with a process that comes just then."""
    limit = size.memory_limit
    return [
        _run_one(url, size, "the same processes go on", size.memory_processes, Limits(limit)),
        _run_one(url, size, "the same processes, a rate as well", 4, Limits(limit, 12 * limit), in_hand=4),
        _run_one(
            url,
            size,
            "a process starts just then, calls of 10 s",
            2,
            Limits(limit),
            latency=10.0,
            joins=True,
        ),
    ]


def _run_one(
    url: str,
    size: Size,
    what: str,
    processes: int,
    limits: Limits,
    *,
    latency: float = 0.5,
    joins: bool = False,
    in_hand: int = 64,
) -> Report:
    report = Report(
        f"memory: Redis forgets all, {what}; {processes} processes, "
        f"limit {size.memory_limit}, lease {_LEASE:.0f} s"
    )
    with fleet(url, size.seed, lease=_LEASE, in_hand=in_hand) as where:
        world = bulk_world(where, "forgotten", limits, Service(where.agenda, where.rng, latency=latency))
        where.start_all(processes, [world], within=0.1)
        where.agenda.run(_LOSS_AT)
        usual = world.audit.live.mean()
        where.server.lose_memory()
        if joins:
            where.start([world])
        _follow(where, world, report, usual)
        # A newcomer knows of no loss: until one of the others tells of it, Redis takes this for a beginning.
        report.add_promises(world, overshoot=size.memory_limit if joins else 0)
    return report


def _follow(where: Fleet, world: World, report: Report, usual: float) -> None:
    """Until as many slots as before are in use again, and a little longer."""
    where.agenda.run(_LOSS_AT + 0.1)  # what was granted before may have been under way
    granted, held_until = world.granted, inf

    def is_short() -> bool:
        nonlocal held_until
        if world.granted > granted:
            held_until = min(held_until, where.agenda.now)
        return held_until == inf or world.audit.live.value < 0.9 * usual

    where.agenda.run_while(is_short, _LOSS_AT + 3 * _LEASE, step=0.05)
    report.add(
        "nothing is granted for, s", held_until - _LOSS_AT, "{:.2f}", at_least=_LEASE, at_most=_LEASE + 2
    )
    report.add("as many calls as before after, s", where.agenda.now - _LOSS_AT, "{:.2f}", at_most=_LEASE + 3)
    meter = Meter(where, world)
    where.agenda.run(where.agenda.now + 30)
    report.add(
        "calls in flight then, of those before",
        meter.utilisation(world) * world.limits.max_concurrency / usual,
        "{:.1%}",
        at_least=0.95,
    )
