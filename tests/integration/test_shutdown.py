"""How a worker stops: what waits goes back at once, calls in flight are stored; a second signal is hard."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import psycopg
import pytest

from embedq.testing import faults
from tests.support.defect import SECRET
from tests.support.stack import DIMENSIONS, Stack, wait_until
from tests.support.workers import Worker

SETTINGS = '[models."text-embedding-3-small"]\nmax_concurrency = 1\nmax_inputs = 10\n'
LANES = ("embedq.docs", "embedq.docs.bulk")


def fill(stack: Stack, count: int) -> None:
    """Enqueue single-item messages."""
    with stack.producer() as producer:
        for number in range(count):
            producer.enqueue("docs", id=str(number), text=f"text number {number}")


def terminate(worker: Worker, number: int = signal.SIGTERM) -> None:
    """Send a signal and do not wait."""
    os.kill(worker.pid, number)


def test_what_waits_goes_back_at_once(stack: Stack) -> None:
    """While a call is still in flight; the call's texts are stored, and nothing is called twice."""
    stack.configure(SETTINGS)
    stack.create("docs")
    stack.api.configure(latency=3)
    fill(stack, 100)
    with stack.worker() as worker:
        stack.api.wait_for(in_flight=1)
        (call,) = stack.api.calls()
        terminate(worker)
        wait_until(lambda: stack.broker.llen("embedq.docs") == 100 - call.texts, 2)
        assert stack.broker.hlen("embedq:unacked") == call.texts
        assert worker.wait() == 0
    assert len(stack.stored("docs")) == call.texts
    assert stack.broker.hlen("embedq:unacked") == stack.broker.zcard("embedq:workers") == 0
    assert stack.broker.llen("embedq.docs") == 100 - call.texts


@pytest.mark.parametrize("drain_time", [30, 1])
def test_chunks_that_are_paid_for_are_finished(stack: Stack, drain_time: int) -> None:
    """The other chunks of their item are asked for during the drain; of other items none is.

    Where the time is too short for them, it is said what was thrown away.
    """
    stack.configure(
        f'[models."short"]\ndimensions = {DIMENSIONS}\nmax_tokens = 100\nmax_inputs = 4\n'
        f"max_concurrency = 1\n[worker]\ndrain_time = {drain_time}\n"
    )
    stack.create("docs", "--on-too-long", "chunk", model="short")
    stack.api.configure(dimensions=DIMENSIONS, latency=0.2)
    texts = [" ".join(f"Sentence {number} of text {text}." for number in range(150)) for text in range(3)]
    with stack.worker() as worker, stack.producer() as producer:
        for number, text in enumerate(texts):
            producer.enqueue("docs", id=str(number), text=text)
        stack.api.wait_for(in_flight=1)
        terminate(worker)
        assert worker.wait() == 0
    stored = [chunk for (chunk,) in stack.sql("SELECT content FROM docs")]
    if drain_time > 1:
        assert len(stored) > 20
        assert set(stack.api.billed(stored)) == {1}
        assert sum(call.texts for call in stack.api.calls()) == len(stored)
        assert "thrown away" not in worker.output
    else:
        assert not stored
        assert "vectors of chunks of collection docs were thrown away" in worker.output
    assert stack.pending() == (2 if stored else 3)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_is_hard_and_loses_nothing(stack: Stack, second: int) -> None:
    """A call that never ends is given up, and its texts are queued."""
    stack.configure(SETTINGS)
    stack.create("docs")
    stack.api.inject(faults.Hang())
    fill(stack, 50)
    with stack.worker() as worker:
        stack.api.wait_for(in_flight=1)
        terminate(worker)
        wait_until(lambda: stack.broker.llen("embedq.docs") >= 40, 5)
        terminate(worker, second)
        began = time.monotonic()
        worker.wait(10)
        assert time.monotonic() - began < 5
    assert stack.broker.llen("embedq.docs") == 50
    assert stack.broker.hlen("embedq:unacked") == 0


def test_a_call_that_outlasts_the_drain_time_is_given_up(stack: Stack) -> None:
    """In order, with exit code 0; its texts are queued."""
    stack.configure("[worker]\ndrain_time = 1.0\n" + SETTINGS)
    stack.create("docs")
    stack.api.inject(faults.Hang())
    fill(stack, 20)
    with stack.worker() as worker:
        stack.api.wait_for(in_flight=1)
        began = time.monotonic()
        assert worker.stop() == 0
        assert 1.0 <= time.monotonic() - began < 3.5
    assert stack.broker.llen("embedq.docs") == 20


def test_a_server_that_outlasts_the_drain_time_is_given_up(stack: Stack) -> None:
    """Likewise, and nothing is said of what was under way."""
    stack.configure("[worker]\ndrain_time = 1.0\n")
    stack.create("docs")
    with psycopg.connect(stack.database_url) as connection, stack.worker() as worker:
        fill(stack, 1)
        stack.wait_until_done()
        connection.execute("LOCK TABLE embedq.usage")
        assert worker.stop() == 0
        assert "ERROR" not in worker.output


def test_a_worker_whose_schema_is_gone_stops_at_once(stack: Stack) -> None:
    """What it had in hand can be stored nowhere, and is queued."""
    stack.configure(SETTINGS)
    stack.create("docs")
    stack.api.configure(latency=1.0)
    with stack.worker() as worker:
        fill(stack, 20)
        stack.api.wait_for(in_flight=1)
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA embedq CASCADE")
        wait_until(lambda: "the database does not have embedq's schema" in worker.output, 10)
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 5
    assert stack.broker.llen("embedq.docs") == stack.pending() == 20


def test_ctrl_c_stops_all_processes_in_order(stack: Stack) -> None:
    """Of a worker of several processes."""
    stack.create("docs")
    with stack.worker(processes=2) as worker:
        terminate(worker, signal.SIGINT)
        assert worker.wait(20) == 0, worker.output
    assert stack.broker.zcard("embedq:workers") == 0, worker.output


def test_a_worker_stops_while_redis_is_away(stack: Stack) -> None:
    """It cannot give back; it ends all the same, and its lease lapses."""
    stack.configure(SETTINGS)
    stack.create("docs")
    fill(stack, 20)
    stack.api.configure(latency=0.5)
    with stack.worker() as worker:
        stack.api.wait_for(calls=1)
        stack.broker.client_pause(4000)
        try:
            worker.stop(timeout=20)
        except subprocess.TimeoutExpired:
            pytest.fail("it did not end:\n" + worker.output)
    with stack.worker():
        stack.wait_until_done(45)
    assert len(stack.stored("docs")) == 20


def test_a_worker_whose_engine_does_not_open_ends(stack: Stack) -> None:
    """Soon, with a code that has it started again, and with the place of the defect; nothing is lost."""
    stack.create("docs")
    fill(stack, 3)
    with Worker(stack.environment, ready=False, change="tests.support.defect:when_opened") as worker:
        code = worker.wait(20)
    assert code == os.EX_SOFTWARE
    assert "the engine could not be opened, so this worker process ends: RuntimeError" in worker.output
    assert "\nRuntimeError at\n" in worker.output
    assert SECRET not in worker.output
    assert stack.broker.llen("embedq.docs") == 3
    assert stack.pending() == 3
