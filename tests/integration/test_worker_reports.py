"""What worker processes say of themselves in Redis, and how it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from embedq import Item
from embedq_worker import names
from embedq_worker.intake.desk import Desk
from embedq_worker.intake.reporter import LIFE, Reporter
from embedq_worker.script import Script
from embedq_worker.store.fleet.pace import read_pace
from embedq_worker.store.fleet.reports import Fleet, Silent, read_fleet
from tests.support.hands import FakeWorker
from tests.support.stack import Stack, wait_until

PREFIX = "team:"


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    """An empty Valkey."""
    with redis.Redis.from_url(broker_url) as client:
        yield client


async def report_once(broker_url: str, desk: Desk, broker: redis.Redis) -> Fleet:
    """One report of a process, and the fleet while it lives."""
    broker.zadd(PREFIX + names.WORKERS, {desk.process: 2e9})
    task = asyncio.create_task(Reporter(broker_url, desk, key_prefix=PREFIX).run())
    fleet = read_fleet(broker, PREFIX)
    while not fleet.reports:
        await asyncio.sleep(0.01)
        fleet = read_fleet(broker, PREFIX)
    assert 0 < broker.ttl(PREFIX + names.REPORT + desk.process) <= LIFE
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return fleet


async def test_a_process_says_what_it_holds_and_has_done(broker_url: str, broker: redis.Redis) -> None:
    """By queue; and when it stops in order, its last work is counted and its report is gone."""
    desk = Desk()
    desk.in_hand.take("p:embedq.docs:1.1", "embedq.docs", 100)
    desk.in_hand.count_items("p:embedq.docs:1.1", 12)
    desk.in_hand.take("p:embedq.docs.bulk:1.2", "embedq.docs.bulk", 100)
    desk.in_hand.settle("p:embedq.docs.bulk:1.2")
    desk.tally.add("embedq.docs.bulk", 7)
    desk.tally.add("embedq.docs", 3)
    desk.tally.add("embedq.docs.query", 1)
    fleet = await report_once(broker_url, desk, broker)
    (report,) = fleet.reports
    assert report.in_hand == {"embedq.docs": (1, 12)}
    assert (report.process, report.messages, report.items) == (desk.process, 3, 11)
    assert report.version
    assert not report.is_stopping
    assert fleet.in_hand("embedq.docs") == 1
    pace = read_pace(broker, PREFIX)
    assert set(pace) == {"docs"}
    assert (sum(pace["docs"].items), sum(pace["docs"].messages)) == (10, 2)  # a query is no backlog
    assert not broker.exists(PREFIX + names.REPORT + desk.process)


async def test_what_was_counted_is_not_counted_twice(
    broker_url: str, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis ran the script, and its answer was lost: the last report does not count it again."""
    run = Script.run_async
    lost = [True]

    async def answer_is_lost(*arguments: Any) -> Any:
        await run(*arguments)
        if lost:
            lost.clear()
            raise redis.TimeoutError("no answer")

    monkeypatch.setattr(Script, "run_async", answer_is_lost)
    desk = Desk()
    desk.tally.add("embedq.docs", 3)
    await report_once(broker_url, desk, broker)
    assert not lost
    assert sum(read_pace(broker, PREFIX)["docs"].items) == 3


async def test_a_defect_at_the_end_leaves_no_connection(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last report may fail in any way."""
    reported, closed = asyncio.Event(), asyncio.Event()
    close = redis.asyncio.Redis.aclose

    async def report(*_: object) -> None:
        reported.set()

    async def fail(*_: object) -> None:
        raise ValueError("a defect")

    async def note(client: redis.asyncio.Redis) -> None:
        await close(client)
        closed.set()

    monkeypatch.setattr(Reporter, "_try_to_report", report)
    monkeypatch.setattr(Reporter, "_leave", fail)
    monkeypatch.setattr(redis.asyncio.Redis, "aclose", note)
    task = asyncio.create_task(Reporter(broker_url, Desk(), key_prefix=PREFIX).run())
    await reported.wait()
    task.cancel()
    with pytest.raises(ValueError, match="a defect"):
        await task
    assert closed.is_set()


async def test_a_process_that_was_told_to_stop_says_so(broker_url: str, broker: redis.Redis) -> None:
    """It fetches nothing any more."""
    desk = Desk()
    desk.governor.stop()
    (report,) = (await report_once(broker_url, desk, broker)).reports
    assert report.is_stopping


def test_who_does_not_report_is_silent(broker: redis.Redis) -> None:
    """With what it holds; once it was taken over, these are suspects of their queue."""
    for number in range(5):
        broker.lpush("embedq.docs", f"message {number}")
    dead, heir = FakeWorker(broker, "dead"), FakeWorker(broker, "heir")
    dead.beat()
    dead.fetch(3)
    dead.die()
    (silent,) = read_fleet(broker).silent
    assert silent == Silent(process="dead", lease=silent.lease, messages=3)
    assert silent.lease < 0
    heir.beat()
    heir.take_over()
    fleet = read_fleet(broker)
    assert [each.process for each in fleet.silent] == ["heir"]
    assert fleet.suspects == {"embedq.docs": 3}


def test_a_hash_of_something_else_is_no_report(broker: redis.Redis) -> None:
    """Another version may report otherwise: what it does not say is left out, and what is new not read."""
    broker.zadd(names.WORKERS, {"older": 2e9, "strange": 2e9})
    broker.hset(names.REPORT + "older", mapping={"process": "older", "host": "a", "mood": "good"})
    broker.hset(names.REPORT + "strange", mapping={"process": "strange", "pid": "none"})
    (report,) = read_fleet(broker).reports
    assert (report.process, report.host, report.version) == ("older", "a", "")


def test_real_workers_report(stack: Stack) -> None:
    """Each process; what both have done adds up; and nothing of theirs is left when they have stopped."""
    stack.create("docs")
    with stack.worker(processes=2):
        with stack.producer() as producer:
            producer.enqueue_many(
                "docs", [Item(id=str(number), text=f"text {number}") for number in range(300)]
            )
        stack.wait_until_done()
        wait_until(lambda: sum(each.items for each in read_fleet(stack.broker).reports) == 300, 10)
        assert len({each.pid for each in read_fleet(stack.broker).reports}) == 2
        pace = read_pace(stack.broker)["docs"]
        assert sum(pace.items) == 300
        assert pace.items_per_second > 0
    assert not stack.broker.keys("embedq:worker:*")
