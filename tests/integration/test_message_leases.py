"""Leases of messages, with real workers: the dead are taken over in time, the living never."""

from __future__ import annotations

import os
import signal
import time

from embedq.testing import faults
from embedq_worker import names
from tests.support.stack import Stack, wait_until

LEASE = 2.0
SETTINGS = f"""
[worker]
message_lease = {LEASE}
lease = 1.0
[models."text-embedding-3-small"]
max_concurrency = 2
max_inputs = 10
"""


def fill(stack: Stack, count: int) -> None:
    """Enqueue single-item messages."""
    with stack.producer() as producer:
        for number in range(count):
            producer.enqueue("docs", id=str(number), text=f"text number {number}")


def test_a_killed_workers_messages_are_done_within_the_lease(stack: Stack) -> None:
    """All that it held, by another one that has long been there."""
    stack.configure(SETTINGS)
    stack.create("docs")
    stack.api.inject(faults.Hang())
    fill(stack, 300)
    with stack.worker() as dead:
        stack.api.wait_for(calls=2)
        with stack.worker() as alive:
            dead.kill()
            killed_at = time.monotonic()
            stack.api.reset()
            wait_until(lambda: len(stack.stored("docs")) == 300, 20)
            took = time.monotonic() - killed_at
            stack.wait_until_done()
    assert took < LEASE + 2.5  # 300 texts in batches of 10 take their time, too
    assert "are taken over" in alive.output


def test_suspects_that_wait_for_money_hold_up_nobody(stack: Stack) -> None:
    """They go back as suspects without a death; other collections' texts are stored meanwhile."""
    stack.configure(SETTINGS)
    stack.create("docs")
    stack.create("rich")
    stack.command("budget", "set", "--collection", "docs", "--tokens", "0")
    fill(stack, 200)
    with stack.worker() as dead:
        wait_until(lambda: stack.broker.hlen(names.UNACKED) == 200, 20)
        dead.kill()
    with stack.worker(), stack.producer() as producer:
        wait_until(lambda: stack.broker.hlen(names.ALONE) == 1, 20)
        producer.enqueue_many("rich", [{"id": str(number), "text": f"rich {number}"} for number in range(20)])
        wait_until(lambda: len(stack.stored("rich")) == 20, 20)
        assert stack.broker.hlen(names.ALONE) == 0
        groups = [entry.split() for entry in stack.broker.lrange(names.SUSPECTS, 0, -1)]
        assert {deaths for _, deaths, _ in groups} == {b"0"}
        # The row is there before its message is acknowledged.
        wait_until(lambda: stack.broker.hlen(names.UNACKED) == 200, 5)
    assert stack.stored("docs") == {}


def test_a_job_is_not_started_again_while_its_worker_lives(stack: Stack) -> None:
    """However long its call takes."""
    stack.configure(SETTINGS)
    stack.create("docs")
    stack.api.configure(latency=2.5 * LEASE)
    fill(stack, 10)
    with stack.worker(processes=2):
        stack.wait_until_done(30)
    assert stack.api.stats().calls == 1
    assert len(stack.stored("docs")) == 10


def test_a_stopped_worker_finds_that_others_have_its_messages(stack: Stack) -> None:
    """It goes on with what is new; of what it held only its calls in flight are made twice."""
    stack.configure(SETTINGS)
    stack.create("docs")
    stack.api.configure(latency=0.4)
    fill(stack, 300)
    with stack.worker() as stopped, stack.worker("--lanes", "query"):
        stack.api.wait_for(calls=2)
        os.kill(stopped.pid, signal.SIGSTOP)
        with stack.worker():
            stack.wait_until_done(40)
            os.kill(stopped.pid, signal.SIGCONT)
            wait_until(lambda: "silent for longer than its lease" in stopped.output, 20)
            stack.wait_until_done()
    assert len(stack.stored("docs")) == 300
    assert stack.api.stats().billed_again <= 2 * 10
