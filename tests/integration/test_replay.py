"""Dead letters are replayed in batches: no crash in between loses one, and none is replayed twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, TypeVar

import psycopg
import pytest

from embedq.broker import Broker
from embedq.query import Deadline
from embedq.steps import Steps
from embedq_worker.errors import StoreError
from embedq_worker.store.dead_letters.listing import ALL, count_chosen
from embedq_worker.store.dead_letters.replay import Replay
from embedq_worker.store.postgres.connections import connect
from tests.support.letters import bury_all, died, letter_ids, queued, queued_ids, stored_versions
from tests.support.stack import Stack, wait_until

T = TypeVar("T")


def test_many_are_replayed_at_a_rate(stack: Stack) -> None:
    """In full messages, no faster than told; replayed twice they add nothing."""
    stack.create("docs")
    bury_all(stack, [died(number) for number in range(2000)])
    began = monotonic()
    said = stack.command("dead-letters", "replay", "--rate", "1000")
    seconds = monotonic() - began

    assert said == "2,000 dead letters queued again\n"
    assert seconds > 7 * 256 / 1000
    assert [len(job["items"]) for job in queued(stack)] == [256] * 7 + [208]
    assert stack.command("dead-letters", "replay") == "0 dead letters queued again\n"
    assert stack.broker.llen("embedq.docs") == 8
    with stack.worker():
        stack.wait_until_done()
    assert stored_versions(stack) == {str(n): (n + 1, {"n": n}) for n in range(2000)}
    assert stack.api.stats().texts == 2000
    assert letter_ids(stack) == []


def test_a_killed_replay_loses_nothing(stack: Stack) -> None:
    """Each item is queued or still a dead letter; run again, the rest is replayed."""
    stack.create("docs")
    bury_all(stack, [died(number) for number in range(1000)])
    command = [sys.executable, "-m", "embedq.cli", "dead-letters", "replay", "--rate", "300"]
    with subprocess.Popen(command, env=stack.environment, stdout=subprocess.PIPE) as process:
        wait_until(lambda: stack.broker.llen("embedq.docs") > 1, 20)
        process.send_signal(signal.SIGKILL)
    assert 0 < len(letter_ids(stack)) < 1000
    assert set(queued_ids(stack)) | set(letter_ids(stack)) == {str(number) for number in range(1000)}

    stack.command("dead-letters", "replay", "--rate", "100000")
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 1000
    assert stack.api.stats().billed_again == 0
    assert letter_ids(stack) == []


class CutOff(Broker):
    """After the first messages Postgres ends the replay's connection: it dies before its commit."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        super().__init__(url)
        self._cut = connection.info

    def run(self, steps: Steps[T], deadline: Deadline | None = None) -> T:
        """Take the steps, and cut after those that published."""
        result = super().run(steps, deadline)
        if isinstance(result, int):  # the number of items
            with psycopg.connect(self._cut.dsn, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (self._cut.backend_pid,))
        return result


def test_a_crash_between_the_two_steps_costs_nothing(stack: Stack) -> None:
    """The items are queued and are dead letters too; done twice they are stored once and paid once."""
    stack.create("docs")
    bury_all(stack, [died(number) for number in range(10)])
    with connect(stack.database_url) as connection:
        broker = CutOff(stack.broker_url, connection)
        with pytest.raises(StoreError, match="were not replayed"):
            list(Replay(connection, broker, ALL, last=10, at_once=4).batches())
        broker.close()
    assert queued_ids(stack) == ["0", "1", "2", "3"]
    assert len(letter_ids(stack)) == 10

    stack.command("dead-letters", "replay")
    assert len(queued_ids(stack)) == 14
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 10
    assert stack.api.stats().texts == 10


def test_redis_away_leaves_the_letters(stack: Stack) -> None:
    """One line says what happened and what to do."""
    stack.create("docs")
    bury_all(stack, [died(1)])
    stack.environment["EMBEDQ_BROKER_URL"] = "redis://127.0.0.1:1/0"
    said = stack.command("dead-letters", "replay", code=1)
    assert "did not answer" in said
    assert "0 dead letters queued again before, the others stay: run it again" in said
    assert letter_ids(stack) == ["1"]


def test_replays_share_the_work(stack: Stack) -> None:
    """Four at a time: every item is queued once."""
    stack.create("docs")
    bury_all(stack, [died(number) for number in range(400)])

    def replay(_: int) -> int:
        with connect(stack.database_url) as connection:
            _, last = count_chosen(connection, ALL)
            broker = Broker(stack.broker_url)
            done = [
                len(each.enqueued) for each in Replay(connection, broker, ALL, last=last, at_once=7).batches()
            ]
            broker.close()
        return sum(done)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(replay, range(4))) == 400
    assert sorted(Counter(queued_ids(stack)).items()) == sorted((str(n), 1) for n in range(400))
    assert letter_ids(stack) == []


def test_what_dies_again_is_replayed_once(stack: Stack) -> None:
    """Its new letter is not meant: the command ends though nothing is mended."""
    stack.create("docs")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("ALTER TABLE docs ADD CHECK (content <> 'text 1')")
    bury_all(stack, [died(number) for number in range(1, 4)])
    replayed: list[int] = []
    with stack.worker(), connect(stack.database_url) as opened:
        _, last = count_chosen(opened, ALL)
        broker = Broker(stack.broker_url)
        for batch in Replay(opened, broker, ALL, last=last, at_once=1).batches():
            replayed += batch.enqueued
            stack.wait_until_done()
            assert len(replayed) <= 3
        broker.close()
    assert len(replayed) == 3
    assert letter_ids(stack) == ["1"]
    assert stack.sql("SELECT number > %s FROM embedq.dead_letter", (last,)) == [(True,)]


def test_the_items_of_a_job_count_for_the_rate(stack: Stack) -> None:
    """A letter of a whole job is as many items as the job has."""
    stack.create("docs")
    job = {"v": 1, "collection": "docs", "items": [{"id": each, "text": each} for each in "abc"]}
    payload = json.dumps({"job": job})
    bury_all(stack, [died(0, item_id=None, cause="not_a_job", payload=payload), died(1)])
    with connect(stack.database_url) as connection:
        broker = Broker(stack.broker_url)
        (batch,) = Replay(connection, broker, ALL, last=2, at_once=10).batches()
        broker.close()
    assert (batch.enqueued, batch.items) == ([1, 2], 4)
    assert sorted(queued_ids(stack)) == ["1", "a", "b", "c"]
