"""Scraping: what is done when a page of metrics is asked for, before it is written."""

from __future__ import annotations

import asyncio

from embedq_worker.engine.accounts import Accounts
from embedq_worker.engine.directory import Directory
from embedq_worker.engine.fleet_readings import FleetReadings
from embedq_worker.engine.health import Health
from embedq_worker.metrics.forgetting import forget
from embedq_worker.metrics.health import OUTAGE, READY


class Scraping:
    """Series of collections that are gone are dropped, and the fleet is read."""

    def __init__(
        self, directory: Directory, accounts: Accounts, readings: FleetReadings, health: Health
    ) -> None:
        self._directory = directory
        self._accounts = accounts
        self._readings = readings
        self._known: set[str] = set()
        """Names of all collections that there were at any page."""
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
        """Each time anew: what was under way when they were dropped is counted after it."""
        names = {each.name for each in self._directory.collections}
        self._known |= names
        for name in self._known - names:
            self._accounts.close(name)
            forget(name)
