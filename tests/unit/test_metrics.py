"""The registry of metrics: its names, its formats, and readings that do not outlive their truth."""

from __future__ import annotations

import asyncio
import threading
import time
from importlib.metadata import version

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from embedq_worker.embedded.process import free_port
from embedq_worker.engine.monitoring.fleet_readings import COUNT_EVERY, PATIENCE
from embedq_worker.engine.monitoring.health import Health
from embedq_worker.engine.monitoring.probes import Probes
from embedq_worker.engine.monitoring.pulse import Pulse
from embedq_worker.metrics.fleet import DEAD_LETTERS
from embedq_worker.metrics.health import READY
from embedq_worker.metrics.reading import LIFE, Reading
from embedq_worker.store.postgres.outage import Outage
from tests.support.metrics import Page, all_metrics

CONTRACT = {
    "embedq_items_total": "collection lane outcome",
    "embedq_messages_total": "collection lane",
    "embedq_lag_seconds": "collection lane",
    "embedq_queries_total": "collection outcome",
    "embedq_in_hand_messages": "collection lane",
    "embedq_calls_total": "model outcome",
    "embedq_call_seconds": "model",
    "embedq_calls_in_flight": "model",
    "embedq_batch_texts": "model",
    "embedq_batch_fill_ratio": "model",
    "embedq_tokens_total": "model collection",
    "embedq_cost_dollars_total": "model collection",
    "embedq_retries_total": "model",
    "embedq_wait_seconds": "model lane",
    "embedq_cache_texts_total": "model result",
    "embedq_write_seconds": "",
    "embedq_rows_written_total": "collection",
    "embedq_dead_letters_total": "collection cause",
    "embedq_outage": "server",
    "embedq_server_errors_total": "server",
    "embedq_relayed_items_total": "collection lane",
    "embedq_redis_emptied_total": "",
    "embedq_taken_over_messages_total": "",
    "embedq_suspects_run_total": "",
    "embedq_ready": "",
    "embedq_build_info": "",
    "embedq_fleet_collection_info": "collection model",
    "embedq_fleet_queued_messages": "collection lane",
    "embedq_fleet_oldest_seconds": "collection lane",
    "embedq_fleet_workers": "",
    "embedq_fleet_suspects": "",
    "embedq_fleet_slots": "model",
    "embedq_fleet_limit": "model",
    "embedq_fleet_in_flight": "model",
    "embedq_fleet_waiting": "model",
    "embedq_fleet_paused": "model reason",
    "embedq_fleet_cooling": "model",
    "embedq_fleet_slots_changed_timestamp_seconds": "model why",
    "embedq_fleet_dead_letters": "collection",
    "embedq_fleet_outbox_unsent_rows": "collection lane",
    "embedq_fleet_outbox_oldest_seconds": "collection lane",
    "embedq_fleet_watch_amiss": "collection state",
    "embedq_fleet_spent_dollars": "scope name",
    "embedq_fleet_budget_dollars": "scope name",
    "embedq_fleet_spent_tokens": "scope name",
    "embedq_fleet_budget_tokens": "scope name",
    "embedq_fleet_budget_spent": "scope name",
    "embedq_drift_distance": "model",
    "embedq_drift_found": "model",
    "embedq_drift_overdue_seconds": "model",
    "embedq_drift_checked_timestamp_seconds": "model",
}
"""Dashboards and alert rules are built on these names: they may be added to, not changed."""


@pytest.mark.parametrize("name", CONTRACT)
def test_names_that_dashboards_are_built_on_exist(name: str) -> None:
    """With these labels."""
    assert " ".join(sorted(all_metrics()[name].labels)) == " ".join(sorted(CONTRACT[name].split()))


async def test_the_metrics_are_served_beside_the_probes() -> None:
    """As text, and as OpenMetrics to whoever accepts that."""
    health = Health(patience=30, hub=Pulse(), redis=Pulse(), outage=Outage())
    port = free_port()
    prepared = asyncio.Event()

    async def prepare() -> None:
        prepared.set()

    serving = asyncio.create_task(Probes(health, prepare, host="127.0.0.1", port=port).run())
    try:
        plain, plain_type = await _fetched(port, "text/plain")
        open_, open_type = await _fetched(port, "application/openmetrics-text; version=1.0.0")
    finally:
        serving.cancel()
        await asyncio.wait([serving])
    assert prepared.is_set()
    assert plain_type.startswith("text/plain")
    assert Page(plain).value("embedq_build_info", version=version("embedq")) == 1
    assert Page(plain).total("process_open_fds") > 0
    assert open_type.startswith("application/openmetrics-text")
    families = parse_openmetrics(open_)  # type: ignore[no-untyped-call]  # it has no types
    assert "embedq_build" in {family.name for family in families}


async def test_writing_a_page_holds_up_nothing() -> None:
    """With hundreds of collections it takes a second, in which the loop has other things to do."""
    health = Health(patience=30, hub=Pulse(), redis=Pulse(), outage=Outage())
    port = free_port()
    loop = asyncio.get_running_loop()
    turned = threading.Event()

    def look() -> dict[tuple[str, ...], float]:
        loop.call_soon_threadsafe(turned.set)
        return {(): float(turned.wait(2))}

    READY.follow(look)
    serving = asyncio.create_task(Probes(health, _nothing, host="127.0.0.1", port=port).run())
    try:
        page, _ = await _fetched(port, "text/plain")
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        READY.follow(dict)
    assert Page(page).value("embedq_ready") == 1


async def test_pages_are_written_one_after_another() -> None:
    """Whoever scrapes often, or several at once, takes no more of the interpreter than one thread does."""
    health = Health(patience=30, hub=Pulse(), redis=Pulse(), outage=Outage())
    port = free_port()
    writing = threading.Lock()
    alone: list[bool] = []

    def look() -> dict[tuple[str, ...], float]:
        is_alone = writing.acquire(blocking=False)
        alone.append(is_alone)
        time.sleep(0.05)  # the others come meanwhile
        if is_alone:
            writing.release()
        return {}

    READY.follow(look)
    serving = asyncio.create_task(Probes(health, _nothing, host="127.0.0.1", port=port).run())
    try:
        await asyncio.gather(*(_fetched(port, "text/plain") for _ in range(4)))
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        READY.follow(dict)
    assert alone == [True] * 4


async def _nothing() -> None:
    """To be done before a page."""


async def _fetched(port: int, accept: str) -> tuple[str, str]:
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(
                    f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}
                ) as answer:
                    return await answer.text(), answer.headers["Content-Type"]
            except aiohttp.ClientConnectionError:  # it does not listen yet
                await asyncio.sleep(0.01)


class Bed:
    """A reading on virtual time."""

    def __init__(self, life: float = LIFE) -> None:
        self.now = 0.0
        self._registry = CollectorRegistry()
        self.reading = Reading(
            "depth_messages", "Depth.", ["queue"], life=life, registry=self._registry, clock=lambda: self.now
        )

    def value(self, queue: str) -> float | None:
        """What is told of a queue."""
        return self._registry.get_sample_value("depth_messages", {"queue": queue})


def test_a_reading_is_left_out_when_it_is_too_old() -> None:
    """A number that nobody has read lately is no number."""
    bed = Bed()
    bed.reading.replace({("docs",): 3})
    bed.now = LIFE
    assert bed.value("docs") == 3
    bed.now = LIFE + 1
    assert bed.value("docs") is None


def test_what_is_read_rarely_lives_longer() -> None:
    """It is told until it is read again, also when that takes long and comes late."""
    bed = Bed(life=60)
    bed.reading.replace({("docs",): 3})
    bed.now = 60
    assert bed.value("docs") == 3
    bed.now = 61
    assert bed.value("docs") is None
    assert DEAD_LETTERS.life > COUNT_EVERY + PATIENCE


def test_what_was_not_read_again_is_gone() -> None:
    """A collection that was dropped leaves nothing behind."""
    bed = Bed()
    bed.reading.replace({("docs",): 3, ("shop",): 4})
    bed.reading.replace({("shop",): 5})
    assert bed.value("docs") is None
    assert bed.value("shop") == 5
