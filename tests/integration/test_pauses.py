"""A service that refuses us pauses its model for all workers; nothing is lost, and it goes on by itself."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

import pytest

from embedq.errors import QueryFailed
from embedq.testing import FakeAPI, faults
from embedq_worker.catalogue import Model
from tests.support.asking import ask, office
from tests.support.stack import MODEL, Stack, wait_until

ITEMS = [{"id": str(number), "text": f"text number {number}"} for number in range(300)]
PAUSED = f"model {MODEL} is paused for all workers"
MENDED = f"model {MODEL} answers again"
AT_ONCE = 1.0
"""Seconds: less than the shortest pause."""


def dead_letters(stack: Stack) -> list[tuple[str, str, int]]:
    """Classes and codes, and how many there are of each."""
    rows = stack.sql("SELECT class, code, count(*) FROM embedq.dead_letter GROUP BY 1, 2")
    return [(str(cause), str(code), int(number)) for cause, code, number in rows]


def test_a_refused_key_pauses_the_fleet(stack: Stack) -> None:
    """Nothing is buried, it is said once, hardly anything is called, and with a good key all is embedded."""
    stack.configure(f'[models."{MODEL}"]\nmax_inputs = 16\n')
    stack.create("docs")
    stack.api.configure(api_key="sk-right", latency=0.05)
    with stack.worker(processes=2) as worker, stack.producer() as producer:
        for start in range(0, 300, 10):
            producer.enqueue_many("docs", ITEMS[start : start + 10])
        wait_until(lambda: PAUSED in worker.output, 20)
        asked_at = monotonic()
        with pytest.raises(QueryFailed, match="check EMBEDQ_API_KEY") as failed:
            producer.embed_query("docs", "a question", timeout=10)
        assert monotonic() - asked_at < AT_ONCE
        assert failed.value.code == "paused"
        together = stack.api.stats().calls
        assert together <= 16
        stack.api.wait_for(calls=together + 1, timeout=10)
        stack.api.configure(api_key=None)
        stack.wait_until_done(20)
        assert worker.output.count(PAUSED) == 1
        assert worker.output.count("ERROR") == 1
        assert worker.output.count(MENDED) == 1
    *before, first_probe, second_probe = [call.at for call in stack.api.calls()][: together + 2]
    assert first_probe - before[-1] >= 1.9
    assert second_probe - first_probe >= 3.9
    assert [call.status for call in stack.api.calls()][together : together + 2] == [401, 200]
    assert len(stack.stored("docs")) == 300
    assert dead_letters(stack) == []


def test_a_collection_may_go_while_its_model_is_paused(stack: Stack) -> None:
    """What workers hold of it goes with it; others are served, also one that did not exist yet."""
    stack.create("docs")
    stack.create("kept")
    stack.api.inject(faults.RefusedKey())
    with stack.worker("--collections", "docs,kept,later") as worker, stack.producer() as producer:
        wait_until(lambda: "there is no collection later, which --collections names" in worker.output, 10)
        producer.enqueue_many("docs", ITEMS[:100])
        wait_until(lambda: PAUSED in worker.output, 20)
        producer.enqueue_many("docs", ITEMS[50:])
        producer.enqueue_many("kept", ITEMS[:60])
        wait_until(lambda: not stack.broker.keys("embedq.*"), 10)
        stack.command("collection", "drop", "docs", "--yes", "--purge")
        assert stack.pending() == 1
        stack.create("later")
        stack.api.reset()
        producer.enqueue("later", id="1", text="in time")
        stack.wait_until_done(20)
        assert worker.output.count("there is no collection later") == 1
    assert len(stack.stored("kept")) == 60
    assert stack.stored("later") == {"1": "in time"}
    assert dead_letters(stack) == []


async def test_every_refusal_pauses_its_model(
    broker_url: str, fake_api: FakeAPI, caplog: pytest.LogCaptureFixture
) -> None:
    """A key, an account, a model, what a gateway says by 400: probed after two seconds; others go on."""
    caplog.set_level(logging.WARNING)
    refusals: dict[str, faults.AnyFault] = {
        "key": faults.RefusedKey(),
        "account": faults.NoCredits(),
        "model": faults.MissingModel(),
        "budget": faults.Status(400, body='{"error": {"type": "budget_exceeded", "code": "400"}}'),
        "page": faults.Status(400, body="<html>The plain HTTP request was sent to HTTPS port</html>"),
    }
    fake_api.configure(dimensions=64)
    for name, fault in refusals.items():
        fake_api.inject(fault, model=name, next_calls=1)
    async with office(broker_url, fake_api.base_url) as opened, asyncio.timeout(20):
        dispatchers = {name: opened.dispatcher(Model(id=name, dimensions=64)) for name in (*refusals, "good")}
        askers = {name: ask(each, "text", lane="live") for name, each in dispatchers.items()}
        await asyncio.gather(*(asker.done.wait() for asker in askers.values()))
        while sum("answers again" in message for message in caplog.messages) < len(refusals):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # a log has no event
    assert all(asker.error is None for asker in askers.values())
    for name in refusals:
        first, probe = fake_api.calls(name)
        assert 1.95 <= probe.at - first.at < 3.5
        assert sum(f"model {name} is paused" in message for message in caplog.messages) == 1
        assert sum(f"model {name} answers again" in message for message in caplog.messages) == 1
    assert len(fake_api.calls("good")) == 1


async def test_queries_alone_bring_a_model_back(broker_url: str, fake_api: FakeAPI) -> None:
    """Each is told of the pause at once and is not called; the first one after it is the probe."""
    fake_api.configure(dimensions=64)
    fake_api.inject(faults.RefusedKey(), next_calls=2)
    async with office(broker_url, fake_api.base_url) as opened, asyncio.timeout(30):
        dispatcher = opened.dispatcher(Model(id="m", dimensions=64))
        for calls in (1, 2):
            asker = ask(dispatcher, f"question {calls}", lane="query")  # makes the call that is refused
            await asker.done.wait()
            refused_at = monotonic()
            assert str(asker.error).startswith("the embeddings API refuses us")
            told = ask(dispatcher, "another", lane="query")
            assert told.done.is_set()
            assert told.error is not None
            assert told.error.code == "paused"
            assert fake_api.stats().calls == calls
            await asyncio.sleep(refused_at + 2.0 * calls + 0.05 - monotonic())  # the pause itself
        asker = ask(dispatcher, "question 3", lane="query")
        await asker.done.wait()
        assert asker.vector is not None
    assert fake_api.stats().calls == 3
