"""What is said of a database that is away: at once, seldom, and once more when it is over."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from embedq_worker.engine.insisting import insist
from embedq_worker.errors import (
    DatabaseAway,
    DatabaseBusy,
    NotMigrated,
    RightsMissing,
    RowRefused,
    StoreError,
)
from embedq_worker.metrics.registry import REGISTRY
from embedq_worker.store.postgres.outage import Outage

FULL = DatabaseAway("the disk of Postgres is full; make room on it (SQLSTATE 53100)")
DOWN = DatabaseAway("Postgres is stopping or starting; look whether it comes back (SQLSTATE 57P01)")


class Clock:
    """Time that only the test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


def test_many_that_wait_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    """With what happened and what to do; another reason is said at once, the end once."""
    outage = Outage(Clock())
    for work in ("writing rows", "reading the ledger", "writing rows"):
        outage.failed(work, FULL)
    assert caplog.messages == [f"writing rows waits: {FULL}"]
    outage.failed("writing rows", DOWN)
    assert caplog.messages[1:] == [f"writing rows waits: {DOWN}"]
    outage.over("writing rows")
    assert len(caplog.messages) == 2
    outage.over("reading the ledger")
    assert caplog.messages[2:] == ["the database serves again after 0 s; what waited goes on"]
    assert outage.reason is None


def test_a_long_outage_is_said_at_growing_intervals(caplog: pytest.LogCaptureFixture) -> None:
    """An hour of it takes a dozen lines and not thousands."""
    clock = Clock()
    outage = Outage(clock)
    said_at: list[float] = []
    while clock.now < 3600:
        before = len(caplog.messages)
        outage.failed("writing rows", FULL)
        said_at += [clock.now] * (len(caplog.messages) - before)
        clock.now += 1
    pauses = [after - before for before, after in pairwise(said_at)]
    assert pauses == [15, 30, 60, 120, 240, 480, 600, 600, 600, 600]
    outage.over("writing rows")
    assert "after 3600 s" in caplog.messages[-1]


def test_others_in_the_way_are_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    """A lock is passed over in silence for two seconds, and Postgres is well all the time."""
    clock = Clock()
    outage = Outage(clock)
    outage.failed("writing rows", DatabaseBusy("a lock"))
    outage.over("writing rows")
    assert not caplog.messages
    for _ in range(4):
        outage.failed("writing rows", DatabaseBusy("a lock"))
        clock.now += 1
    assert caplog.messages == ["writing rows waits: a lock"]
    assert outage.reason is None


def test_who_lacks_rights_waits_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It is no outage, and speaks for itself; what all need is one."""
    outage = Outage(Clock())
    reasons: list[str | None] = []
    lacking = RightsMissing("GRANT UPDATE")
    for work in ("products", "orders", "products"):
        outage.failed(work, lacking, alone=True)
        reasons.append(outage.reason)
    assert [outage.lacks_rights(work) for work in ("products", "docs")] == [True, False]
    assert caplog.messages == ["products waits: GRANT UPDATE", "orders waits: GRANT UPDATE"]
    outage.over("products")
    outage.failed("docs", FULL, alone=True)
    reasons.append(outage.reason)
    outage.over("docs")
    assert caplog.messages[2:] == [
        "products waits no more, after 0 s",
        f"docs waits: {FULL}",
        "the database serves again after 0 s; what waited goes on",
    ]
    outage.failed("dead letters", lacking)
    assert [*reasons, outage.reason] == [None, None, None, str(FULL), "GRANT UPDATE"]


@pytest.mark.parametrize(
    ("error", "alone", "counted"),
    [(FULL, False, 1), (DatabaseBusy("a lock"), False, 0), (RightsMissing("GRANT UPDATE"), True, 0)],
)
def test_what_postgres_failed_is_counted(error: StoreError, alone: bool, counted: int) -> None:
    """A lock of others is none of it, nor what one piece of work lacks rights for."""
    before = _errors()
    Outage(Clock()).failed("writing rows", error, alone=alone)
    assert _errors() - before == counted


def _errors() -> float:
    return REGISTRY.get_sample_value("embedq_server_errors_total", {"server": "postgres"}) or 0.0


async def test_insisting_ends_with_the_first_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What is away is asked again, and what may come; a refusal is an answer."""
    caplog.set_level(logging.WARNING)
    outage = Outage()
    errors = [FULL, NotMigrated(), RowRefused("23514")]
    reasons: list[str | None] = []

    async def work() -> None:
        reasons.append(outage.reason)
        raise errors.pop(0)

    with pytest.raises(RowRefused):
        await insist(work, "writing rows", outage, also=NotMigrated)
    assert reasons == [None, str(FULL), str(NotMigrated())]
    assert outage.reason is None


async def test_insisting_that_is_cancelled_is_no_sign_of_the_database(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that stops meanwhile does not say that Postgres is back."""
    caplog.set_level(logging.WARNING)
    outage = Outage()
    has_failed = asyncio.Event()

    async def work() -> None:
        has_failed.set()
        raise FULL

    insisting = asyncio.create_task(insist(work, "writing rows", outage))
    await has_failed.wait()
    insisting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await insisting
    assert "serves again" not in caplog.text
    assert outage.reason == str(FULL)
