"""Whatever the API does, no text is lost, no wrong vector is stored, and nothing of it is a dead letter."""

from __future__ import annotations

import pytest

from embedq.testing import faults
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
