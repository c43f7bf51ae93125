"""Whatever the API does, no text is lost, no wrong vector is stored, and nothing of it is a dead letter."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

from embedq.testing import FakeAPI, faults
from embedq_worker.limiter.keys import model_key
from tests.support.asking import ask, office
from tests.support.stack import MODEL, Stack, wait_until

ITEMS = [{"id": str(number), "text": f"text number {number}"} for number in range(100)]


def dead_letters(stack: Stack) -> int:
    """How many there are."""
    return int(stack.sql("SELECT count(*) FROM embedq.dead_letter")[0][0])


@pytest.mark.parametrize(
    "fault",
    [
        faults.Status(500),
        faults.Status(503),
        faults.Status(429),
        faults.Reset(),
        faults.CutBody(),
        faults.CutJSON(),
        faults.NotJSON(),
        faults.WrongCount(),
        faults.WrongIndex(),
        faults.RepeatedIndex(),
        faults.WrongDimensions(),
        faults.NotFinite(),
        faults.ZeroVector(),
    ],
    ids=lambda fault: str(fault),
)
def test_a_passing_fault_is_tried_again(stack: Stack, fault: faults.Fault) -> None:
    """The first calls fail; then all is stored, each vector with its own text."""
    stack.create("docs")
    stack.api.inject(fault, next_calls=2)  # type: ignore[arg-type]  # each of them is one of the registered
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", ITEMS)
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 100
    assert dead_letters(stack) == 0


def test_a_hanging_call_is_given_up(stack: Stack) -> None:
    """After the time that a call may take, and tried again."""
    stack.configure("[worker]\nrequest_timeout = 1.0\n")
    stack.create("docs")
    stack.api.inject(faults.Hang(), next_calls=1)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", ITEMS)
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 100


def test_a_key_is_mended_without_a_restart(stack: Stack) -> None:
    """While the key is refused nothing is buried; the key that is then put into the file embeds it all."""
    file = stack.folder / "api.key"
    file.write_text("sk-expired")
    stack.environment["EMBEDQ_API_KEY_FILE"] = str(file)
    stack.api.configure(api_key="sk-new")
    stack.create("docs")
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue_many("docs", ITEMS)
        wait_until(lambda: "is paused" in worker.output, 20)
        file.write_text("sk-new")
        stack.wait_until_done()
        assert "sk-" not in worker.output
    assert len(stack.stored("docs")) == 100
    assert dead_letters(stack) == 0


def test_a_stopping_worker_does_not_wait_for_a_paused_model(stack: Stack) -> None:
    """It gives the messages back and ends."""
    stack.create("docs")
    stack.api.inject(faults.RefusedKey())
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue_many("docs", ITEMS)
        wait_until(lambda: "is paused" in worker.output, 20)
        assert worker.stop(timeout=8) == 0
    assert stack.broker.llen("embedq.docs") == 1
    assert stack.broker.hlen("embedq:unacked") == 0


def test_calls_that_are_refused_together_pause_the_model_once(stack: Stack) -> None:
    """Sixteen at the same time cost two seconds, not a minute."""
    stack.configure('[models."text-embedding-3-small"]\nmax_concurrency = 16\nmax_inputs = 4\n')
    stack.create("docs")
    stack.api.configure(latency=0.3)
    stack.api.inject(faults.Status(401), next_calls=16)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", ITEMS)
        stack.api.wait_for(calls=16)
        stack.wait_until_done(15)
    assert len(stack.stored("docs")) == 100


def test_a_wait_of_a_day_is_not_believed(stack: Stack) -> None:
    """A wrong ``Retry-After`` stops a model for minutes at most."""
    stack.create("docs")
    stack.api.inject(faults.Status(503, retry_after="86400"), next_calls=1)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text="x")
        wait_until(lambda: cool_until(stack) > 0, 20)
        assert cool_until(stack) - time.time() <= 300


def cool_until(stack: Stack) -> float:
    """Until when the model is not called, in seconds since the epoch; 0 when nobody says so."""
    return float(stack.broker.hget(model_key(MODEL), "cool_until") or 0) / 1000


async def test_an_answered_text_is_forgotten(broker_url: str, fake_api: FakeAPI) -> None:
    """Also one that was tried again: a bad hour of the service leaves nothing in memory."""
    fake_api.inject(faults.Status(503), next_calls=1)
    async with office(broker_url, fake_api.base_url) as opened, asyncio.timeout(20):
        dispatcher = opened.dispatcher(opened.settings.catalogue.usable(MODEL))
        asker = ask(dispatcher, "text")
        forgotten = weakref.ref(asker)
        await asker.done.wait()
        del asker
        await asyncio.gather(*dispatcher.tasks)
        gc.collect()
        assert forgotten() is None
