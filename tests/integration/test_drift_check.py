"""The drift check in one process, on a real database: when it calls, and what it leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest

from embedq_worker.cancelling import cancel_all
from embedq_worker.catalogue import Model
from embedq_worker.engine import drift_check
from embedq_worker.engine.calling.dispatcher import Dispatcher
from embedq_worker.engine.directory import Served
from embedq_worker.engine.drift_check import DriftCheck
from embedq_worker.engine.texts import Shape, Waiter
from embedq_worker.errors import BadInput
from embedq_worker.limiter import Flow
from embedq_worker.metrics.registry import REGISTRY
from embedq_worker.settings import Settings, WorkerSettings
from embedq_worker.store.collections import get_collection
from embedq_worker.store.drift import DriftState, list_states, want_check
from embedq_worker.store.moving.successor import start
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.postgres.database import Database
from tests.support.two_models import NEW, OLD, two_rows


@dataclass
class Asked:
    """In the dispatchers' place: keeps who asks, and the test answers."""

    is_paused: bool = False
    waiters: list[tuple[Shape, Flow, Waiter]] = field(default_factory=list)
    sweeps: int = 0

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """Keep it."""
        assert key
        assert text
        self.waiters.append((shape, flow, waiter))

    def let_go(self) -> None:
        """Look who is gone."""
        self.sweeps += 1

    def answer(self, last: float = 1.0) -> None:
        """Give everybody a vector of ones but for its last component."""
        for shape, _, waiter in self.waiters:
            vector = np.ones(shape.dimensions, np.float32)
            vector[-1] = last
            waiter.embedded(vector, 1, 1)


def measured(what: str, model: str = "old") -> float | None:
    """What Prometheus is told."""
    return REGISTRY.get_sample_value(f"embedq_drift_{what}", {"model": model})


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow one another at once."""
    monkeypatch.setattr(drift_check, "_ROUND", 0.01)
    monkeypatch.setattr(drift_check, "_LOOK", 0.01)


@pytest.fixture(autouse=True)
def docs(connection: Connection) -> None:
    """A collection that moves from one model to another."""
    two_rows(connection)
    start(connection, "docs", NEW)


@asynccontextmanager
async def checking(
    connection: Connection, url: str, hours: float = 0.0, service: str = "http://one/v1"
) -> AsyncIterator[tuple[DriftCheck, Asked]]:
    """The check at work."""
    served = [Served(get_collection(connection, "docs"), OLD, NEW)]
    asked = Asked()
    database = Database(url, connections=2)
    await database.open()

    def dispatcher_of(model: Model) -> Dispatcher:
        assert model in (OLD, NEW)
        return cast("Dispatcher", asked)

    settings = Settings(api_base_url=service, worker=WorkerSettings(drift_hours=hours))
    check = DriftCheck(settings, database, served=lambda: served, dispatcher_of=dispatcher_of)
    running = asyncio.create_task(check.run())
    yield check, asked
    await cancel_all([running])
    await cancel_all(check.tasks)
    await database.close()


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.01)


async def texts(asked: Asked, count: int) -> None:
    """Wait until so many texts were asked for."""
    await until(lambda: len(asked.waiters) >= count)


async def ended(check: DriftCheck) -> None:
    """Wait until no check is under way."""
    await until(lambda: not check.tasks)


def states(connection: Connection) -> dict[str, DriftState]:
    """The states by model."""
    return {state.model: state for state in list_states(connection)}


async def test_both_models_of_a_move_are_checked(connection: Connection, database_url: str) -> None:
    """In the lane bulk, in nobody's name, at the size that each has."""
    async with checking(connection, database_url, hours=1e-6) as (check, asked):
        await texts(asked, 22)
        asked.answer()
        await until(lambda: all(state.checked_at for state in list_states(connection)))
        check.let_go()
    assert {(shape.dimensions, shape.purpose) for shape, _, _ in asked.waiters} == {
        (3, "document"),
        (2, "document"),
    }
    assert {flow for _, flow, _ in asked.waiters} == {Flow("bulk", "(drift)")}
    assert states(connection)["old"].distance == 0


async def test_a_process_that_starts_checks_only_what_is_asked_for(
    connection: Connection, database_url: str
) -> None:
    """For minutes: a fleet that is started anew has other work."""
    async with checking(connection, database_url, hours=6) as (check, asked):
        want_check(connection, "old")
        await texts(asked, 11)
        asked.answer()
        await ended(check)
        await asyncio.sleep(0.05)
        assert len(asked.waiters) == 11
    assert states(connection)["new"].checked_at is None


async def test_nothing_is_checked_while_paused(connection: Connection, database_url: str) -> None:
    """Nor claimed: once the model is called again it is checked."""
    async with checking(connection, database_url) as (_, asked):
        asked.is_paused = True
        want_check(connection, "old")
        await asyncio.sleep(0.1)
        assert asked.waiters == []
        assert not states(connection)["old"].is_claimed
        asked.is_paused = False
        await texts(asked, 11)


async def test_a_pause_in_the_middle_ends_a_check(
    connection: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits any more, and nothing is known; it is tried again later, at once if somebody asks."""
    async with checking(connection, database_url) as (check, asked):
        want_check(connection, "old")
        await texts(asked, 11)
        asked.is_paused = True
        await ended(check)
        asked.is_paused = False
        assert all(waiter.is_gone for _, _, waiter in asked.waiters)
        assert asked.sweeps == 1
        await asyncio.sleep(0.05)
        assert len(asked.waiters) == 11
        want_check(connection, "old")
        await texts(asked, 22)
    assert "model old was not checked for drift, again in 600 s: the model is paused" in caplog.text


async def test_texts_that_a_service_refuses_are_told(
    connection: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A check without all vectors finds nothing."""
    async with checking(connection, database_url) as (check, asked):
        want_check(connection, "old")
        await texts(asked, 11)
        asked.waiters[0][2].refused(BadInput(400), 1)
        asked.answer()
        await ended(check)
    assert "model old was not checked for drift" in caplog.text
    assert states(connection)["old"].checked_at is None


async def test_a_check_holds_up_no_stop(connection: Connection, database_url: str) -> None:
    """It lets go of its texts, and begins no other."""
    async with checking(connection, database_url) as (check, asked):
        want_check(connection, "old")
        await texts(asked, 11)
        check.let_go()
        await ended(check)
        want_check(connection, "old")
        await asyncio.sleep(0.05)
        assert all(waiter.is_gone for _, _, waiter in asked.waiters)
        assert len(asked.waiters) == 11


async def test_every_process_measures_the_worst_of_a_model(connection: Connection, database_url: str) -> None:
    """Also one that has not checked itself; a model that was not checked has no value."""
    connection.execute(
        "INSERT INTO embedq.drift (model, dimensions, checked_at, distance, drifts_since) VALUES"
        " ('old', 3, to_timestamp(500), 0.5, now()), ('old', 2, to_timestamp(400), 0.1, NULL)"
    )
    connection.execute("UPDATE embedq.shadow SET model = 'old'")
    async with checking(connection, database_url):
        await until(lambda: measured("distance") == 0.5)
    assert (measured("found"), measured("checked_timestamp_seconds")) == (1, 400)
    assert measured("found", "new") is None


async def test_a_check_that_does_not_come_is_overdue(connection: Connection, database_url: str) -> None:
    """Since it was due; of a model that was never checked, since this process might have done it."""
    connection.execute(
        "INSERT INTO embedq.drift (model, dimensions, checked_at, distance, claimed_until)"
        " VALUES ('old', 3, now() - interval '3 hours', 0, now() + interval '1 day')"
    )
    async with checking(connection, database_url, hours=1) as (check, _):
        await until(lambda: (measured("overdue_seconds") or 0) > 0)
        assert measured("overdue_seconds") == pytest.approx(7_200, abs=60)
        assert measured("overdue_seconds", "new") == 0  # it waits five minutes before its first
        check.let_go()
    async with checking(connection, database_url, hours=0):
        await until(lambda: measured("overdue_seconds") is None)


@pytest.mark.parametrize(
    ("service", "why"),
    [
        ("http://one/v1", "nothing was changed here, so that the service gives another model"),
        ("http://two/v1", "its address or settings are other than then"),
    ],
)
async def test_a_drift_is_told_with_what_may_be_why(
    connection: Connection, database_url: str, caplog: pytest.LogCaptureFixture, service: str, why: str
) -> None:
    """Another service under the same name is compared with the one before it."""
    for address, last in (("http://one/v1", 1.0), (service, -1.0), (service, -1.0), (service, 1.0)):
        async with checking(connection, database_url, service=address) as (check, asked):
            want_check(connection, "old")
            await texts(asked, 11)
            asked.answer(last)
            await ended(check)
    assert states(connection)["old"].is_changed_here == (service != "http://one/v1")
    assert caplog.text.count("model old drifts: ") == 1
    assert why in caplog.text
    assert caplog.text.count("model old drifts no more") == 1


async def test_an_older_schema_is_told_once(
    connection: Connection, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker works on; it says what to run."""
    connection.execute("DROP TABLE embedq.drift_vector, embedq.drift")
    async with checking(connection, database_url, hours=1e-6) as (_, asked):
        await until(lambda: "run `embedq migrate`" in caplog.text)
        await asyncio.sleep(0.1)
    assert caplog.text.count("run `embedq migrate`") == 1
    assert asked.waiters == []
