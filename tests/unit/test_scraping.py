"""What is done before a page of metrics: series of collections that are gone end with them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from embedq_worker.engine.monitoring import scraping
from embedq_worker.engine.monitoring.health import Health
from embedq_worker.engine.monitoring.pulse import Pulse
from embedq_worker.engine.monitoring.queue_meter import QueueMeters
from embedq_worker.engine.monitoring.scraping import STRAGGLERS, Scraping
from embedq_worker.metrics.registry import REGISTRY
from embedq_worker.metrics.writes import ROWS
from embedq_worker.store.postgres.outage import Outage


class Bed:
    """Pages on virtual time, of collections by name."""

    def __init__(self) -> None:
        self.now = 0.0
        self.directory = SimpleNamespace(collections=[])
        health = Health(patience=30, hub=Pulse(), redis=Pulse(), outage=Outage())
        directory: Any = self.directory
        readings: Any = self
        self._scraping = Scraping(directory, QueueMeters(), readings, health, clock=lambda: self.now)

    async def read(self, _: object) -> None:
        """The fleet is not looked at here."""

    async def page(self, *collections: str) -> None:
        """A page is asked for while there are these."""
        self.directory.collections = [SimpleNamespace(name=name) for name in collections]
        await self._scraping.prepare()


def rows(collection: str) -> float | None:
    """What is told of one."""
    return REGISTRY.get_sample_value("embedq_rows_written_total", {"collection": collection})


async def test_series_end_with_their_collection() -> None:
    """Also those of what was under way when it was dropped; and others stay."""
    bed = Bed()
    for name in ("gone", "stays"):
        ROWS.labels(name).inc()
    await bed.page("gone", "stays")
    assert rows("gone") == 1
    await bed.page("stays")
    ROWS.labels("gone").inc()
    bed.now = STRAGGLERS / 2
    await bed.page("stays")
    assert (rows("gone"), rows("stays")) == (None, 1)


async def test_a_collection_that_comes_back_begins_anew() -> None:
    """And is not forgotten again."""
    bed = Bed()
    await bed.page("docs")
    await bed.page()
    ROWS.labels("docs").inc()
    await bed.page("docs")
    assert rows("docs") == 1


async def test_what_is_gone_for_long_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that makes a collection a job has thousands of them behind it."""
    forgotten: list[str] = []
    monkeypatch.setattr(scraping, "forget", forgotten.append)
    bed = Bed()
    await bed.page("gone")
    bed.now = STRAGGLERS * 2  # nobody asked for a page meanwhile
    await bed.page()
    bed.now += STRAGGLERS + 1
    await bed.page()
    assert forgotten == ["gone", "gone"]
    await bed.page()
    assert forgotten == ["gone", "gone"]
