"""Scraping: what is done when a page of metrics is asked for, before it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from embedq_worker.engine.directory import Directory
from embedq_worker.engine.monitoring.fleet_readings import FleetReadings
from embedq_worker.engine.monitoring.health import Health
from embedq_worker.engine.monitoring.queue_meter import QueueMeters
from embedq_worker.metrics.forgetting import forget
from embedq_worker.metrics.health import OUTAGE, READY

STRAGGLERS = 600.0
"""Seconds in which what was under way for a collection may still be counted after it is gone."""


class Scraping:
    """Series of collections that are gone are dropped, and the fleet is read."""

    def __init__(
        self,
        directory: Directory,
        meters: QueueMeters,
        readings: FleetReadings,
        health: Health,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._directory = directory
        self._meters = meters
        self._readings = readings
        self._clock = clock
        self._known: set[str] = set()
        """Names of the collections that there were at the last page."""
        self._gone: dict[str, float] = {}
        """Names of those that are gone since then, and when that was seen."""
        READY.follow(lambda: {(): float(not health.not_ready())})
        OUTAGE.follow(lambda: {(server,): float(is_away) for server, is_away in health.outages().items()})

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is being read."""
        return self._readings.tasks

    async def prepare(self) -> None:
        """Bring up to date what the next page says; a server that is away costs a second."""
        await self._readings.read(self._directory.collections)
        self._forget_gone()

    def _forget_gone(self) -> None:
        """Each time anew for a while: what was under way when they were dropped is counted after it."""
        now = self._clock()
        names = {each.name for each in self._directory.collections}
        self._gone |= dict.fromkeys(self._known - names, now)
        self._known = names
        for name, gone_at in list(self._gone.items()):
            if name not in names:
                self._meters.close(name)
                forget(name)
            if name in names or now - gone_at > STRAGGLERS:
                del self._gone[name]
