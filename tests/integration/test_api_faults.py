"""Whatever the API does, no text is lost, no wrong vector is stored, and nothing of it is a dead letter."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from embedq.testing import FakeAPI, faults
from embedq_worker.api.client import ApiClient
from embedq_worker.engine.batcher import Vector
from embedq_worker.engine.dispatcher import Dispatcher
from embedq_worker.errors import ApiError
from embedq_worker.limiter import Limiter
from embedq_worker.settings import Settings
from tests.support.stack import Stack, wait_until

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


@pytest.mark.parametrize(
    "fault", [faults.RefusedKey(), faults.NoCredits(), faults.MissingModel()], ids=lambda fault: str(fault)
)
def test_a_service_that_refuses_us_pauses_the_model(stack: Stack, fault: faults.Fault) -> None:
    """Few calls are made, nothing is buried, it is said once, and all is embedded when it is mended."""
    stack.create("docs")
    stack.api.inject(fault)  # type: ignore[arg-type]  # each of them is one of the registered
    with stack.worker() as worker, stack.producer() as producer:
        for item in ITEMS:
            producer.enqueue("docs", id=item["id"], text=item["text"])
        wait_until(lambda: "is paused" in worker.output, 20)
        stack.api.wait_for(calls=2, timeout=20)
        refused = stack.api.stats().calls
        assert dead_letters(stack) == 0
        stack.api.reset()
        stack.wait_until_done()
        assert worker.output.count("is paused") == 1
        assert worker.output.count("answers again") == 1
    assert refused <= 20
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
    stack.api.inject(faults.Status(401), next_calls=17)  # and the one that waits for a slot
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", ITEMS)
        stack.api.wait_for(calls=16)
        stack.wait_until_done(15)
    assert len(stack.stored("docs")) == 100


def test_a_wait_of_a_day_is_not_believed(stack: Stack) -> None:
    """A wrong ``Retry-After`` delays a batch by minutes at most."""
    stack.create("docs")
    stack.api.inject(faults.Status(503, retry_after="86400"), next_calls=1)
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue("docs", id="1", text="x")
        wait_until(lambda: " failed, again in " in worker.output, 20)
        assert " failed, again in 300." in worker.output


class Asker:
    """Waits for one vector."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        """It has come."""
        self.done.set()

    def refused(self, error: ApiError, attempts: int) -> None:
        """It will not come."""


async def test_an_answered_text_is_forgotten(broker_url: str, fake_api: FakeAPI) -> None:
    """Also one that was tried again: a bad hour of the service leaves nothing in memory."""
    fake_api.inject(faults.Status(503), next_calls=1)
    settings = Settings(api_base_url=fake_api.base_url)
    model = settings.catalogue.usable("text-embedding-3-small")
    limiter = Limiter(broker_url, lease=30)
    async with ApiClient(settings) as client, asyncio.timeout(20):
        gate = limiter.gate("m", 1)
        dispatcher = Dispatcher(model, 64, "document", client=client, gate=gate, batch_wait=0, retry_time=60)
        running = asyncio.create_task(dispatcher.run())
        asker = Asker()
        forgotten = weakref.ref(asker)
        dispatcher.ask(b"key", "text", asker)
        await asker.done.wait()
        del asker
        await asyncio.gather(*dispatcher.tasks)
        gc.collect()
        assert forgotten() is None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await limiter.close()
