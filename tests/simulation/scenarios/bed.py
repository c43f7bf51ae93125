"""What the scenarios share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embedq.contract import Lane
from embedq_worker.limiter.exchange import Flow, Limits
from tests.simulation.fleet import Fleet
from tests.simulation.report import Report
from tests.simulation.service import Service
from tests.simulation.world import Queue, World

ENDLESS = 10_000_000
"""More requests than any scenario makes."""


@contextmanager
def fleet(
    url: str, seed: int, *, lease: float = 30.0, in_hand: int = 16, loss: float = 0.0, cost: float = 0.0001
) -> Iterator[Fleet]:
    """A fleet on an empty Redis."""
    made = Fleet(url, seed, lease=lease, in_hand=in_hand, loss=loss, cost=cost)
    try:
        yield made
    finally:
        made.server.close()


def queue(lane: Lane, collection: str, calls: int = 0, **kind: float) -> Queue:
    """A queue with so many requests."""
    made = Queue(Flow(lane, collection), **kind)  # type: ignore[arg-type]
    made.put(calls)
    return made


def bulk_world(where: Fleet, name: str, limits: Limits, service: Service, calls: int = ENDLESS) -> World:
    """A model with one collection, in bulk."""
    return World(where.agenda, name, limits, service, [queue("bulk", "docs", calls)])


class Meter:
    """Measures from its making on."""

    def __init__(self, where: Fleet, *worlds: World) -> None:
        self._where = where
        self._worlds = worlds
        self._began_at = where.agenda.now
        self._exchanges, self._looks = where.server.exchanges, where.looks
        for world in worlds:
            world.audit.live.begin()

    def utilisation(self, world: World, slots: int | None = None) -> float:
        """Mean part of the slots with a call in them."""
        return world.audit.live.mean() / (slots or world.limits.max_concurrency)

    def add_redis(self, report: Report) -> None:
        """What Redis had to do."""
        server = self._where.server
        seconds = self._where.agenda.now - self._began_at
        report.add_redis(
            self._where, seconds, server.exchanges - self._exchanges, self._where.looks - self._looks
        )
