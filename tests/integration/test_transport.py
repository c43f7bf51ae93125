"""The transport fetches atomically, holds what is in hand, and acknowledges after the commit."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import psycopg

from embedq_worker import names
from embedq_worker.intake.scripts import FETCH, GIVE_BACK
from tests.support.stack import Stack, wait_until

KILL_WORKERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'embedq worker'
"""
RECORDS = ("embedq:unacked", "embedq:unacked_index")


def fetch(
    stack: Stack, *rooms: tuple[str, int], number: str = "1", size: int = 1 << 20, acks: tuple[str, ...] = ()
) -> list[Any]:
    """Run the fetch script for the process ``p``; returns the messages of the flat reply."""
    stack.broker.zadd(names.WORKERS, {"p": time.time() + 60})
    arguments = [
        "p",
        number,
        str(size),
        str(len(acks)),
        *acks,
        *[str(part) for room in rooms for part in room],
    ]
    keys = [names.UNACKED, names.INDEX, names.WORKERS, names.SUSPECTS, names.KILLERS]
    reply = FETCH.run(stack.broker, [*keys, *[queue for queue, _ in rooms]], arguments)
    assert isinstance(reply, list)
    assert reply[:3] == [1, 0, 0]
    return reply[3:]


def test_a_fetch_moves_and_records_in_one_step(stack: Stack) -> None:
    """Oldest first, no more than there is room for, each with a record that kombu can read."""
    stack.broker.lpush("q", b'{"n": 1}', b'{"n": 2}', b'{"n": 3}')
    first, second = b"p:q:1.00001", b"p:q:1.00002"
    assert fetch(stack, ("q", 2)) == [1, first, b'{"n": 1}', 1, second, b'{"n": 2}']
    assert stack.broker.lrange("q", 0, -1) == [b'{"n": 3}']
    records = {tag: json.loads(record) for tag, record in stack.broker.hgetall(RECORDS[0]).items()}
    assert records == {first: [{"n": 1}, "", "q"], second: [{"n": 2}, "", "q"]}
    assert stack.broker.zrange(RECORDS[1], 0, -1) == [first, second]


def test_who_has_no_lease_fetches_nothing(stack: Stack) -> None:
    """Nobody would take over what it holds; its acknowledgements are heard all the same."""
    stack.broker.lpush("q", b"1", b"2")
    (_, tag, _) = fetch(stack, ("q", 1))
    stack.broker.delete(names.WORKERS)
    keys = [names.UNACKED, names.INDEX, names.WORKERS, names.SUSPECTS, names.KILLERS, "q"]
    assert FETCH.run(stack.broker, keys, ["p", "2", "999", "1", tag.decode(), "q", "9"]) == [0, 0, 0]
    assert stack.broker.hlen(RECORDS[0]) == 0
    assert stack.broker.llen("q") == 1


def test_a_fetch_never_parses(stack: Stack) -> None:
    """A malformed message does not strand its neighbours."""
    stack.broker.lpush("q", b"{", b"\xff\xfe", b'{"n": 3}')
    assert fetch(stack, ("q", 9))[2::3] == [b"{", b"\xff\xfe", b'{"n": 3}']
    assert stack.broker.hlen(RECORDS[0]) == 3


def test_a_fetch_ends_at_its_bytes(stack: Stack) -> None:
    """One message always fits; the next fetch takes the others."""
    stack.broker.lpush("q", *[b"x" * 600 for _ in range(5)])
    assert len(fetch(stack, ("q", 9), size=1000)) == 2 * 3
    assert len(fetch(stack, ("q", 9), size=1, number="2")) == 1 * 3


def test_queues_are_served_in_the_order_given(stack: Stack) -> None:
    """And each has its own room."""
    stack.broker.lpush("a", b"a1", b"a2")
    stack.broker.lpush("b", b"b1", b"b2")
    reply = fetch(stack, ("b", 1), ("a", 5))
    assert list(zip(reply[::3], reply[2::3], strict=True)) == [(1, b"b1"), (2, b"a1"), (2, b"a2")]


def test_a_key_that_is_no_list_holds_up_no_other_queue(stack: Stack) -> None:
    """Somebody's slip: nothing can be queued there; what was fetched before it is not stranded."""
    stack.broker.lpush("a", b"a1")
    stack.broker.set("b", b"no list")
    stack.broker.lpush("c", b"c1")
    assert fetch(stack, ("a", 5), ("b", 5), ("c", 5))[2::3] == [b"a1", b"c1"]
    assert stack.broker.hlen(RECORDS[0]) == 2


def test_acknowledgements_ride_along(stack: Stack) -> None:
    """Also thousands, and also when there is nothing to fetch; twice is as good as once."""
    stack.broker.lpush("q", *[b"m"] * 2500)
    tags = tuple(tag.decode() for tag in fetch(stack, ("q", 2500))[1::3])
    for _ in range(2):
        assert fetch(stack, acks=tags) == []
        assert stack.broker.hlen(RECORDS[0]) == stack.broker.zcard(RECORDS[1]) == 0


def test_given_back_messages_come_first_and_in_order(stack: Stack) -> None:
    """Byte for byte as they came; a tag without a record is skipped."""
    stack.broker.lpush("q", b"1", b'{"a": "[\\""}', b"3")
    fetch(stack, ("q", 2))
    tags = [f"p:q:1.{number:05d}" for number in (9, 2, 1)]
    keys = [*RECORDS, names.ALONE, names.SUSPECTS, names.SUSPECTS_NUMBER, "q", "q", "q"]
    given = GIVE_BACK.run(stack.broker, keys, ["p", *[part for tag in tags for part in (tag, "q")]])
    assert given == 2
    assert stack.broker.lrange("q", 0, -1) == [b"3", b'{"a": "[\\""}', b"1"]
    assert stack.broker.hlen(RECORDS[0]) == stack.broker.zcard(RECORDS[1]) == 0


def fill(stack: Stack, count: int) -> None:
    """Enqueue single-item messages."""
    with stack.producer() as producer:
        for number in range(count):
            producer.enqueue("docs", id=str(number), text=f"text number {number}")


def _has_moved(stack: Stack, before: int) -> bool:
    return len(stack.stored("docs")) > before or not stack.broker.llen("embedq.docs")


def test_nothing_is_lost_by_sigkill(stack: Stack) -> None:
    """Whenever a worker is killed, each message is stored, queued or recorded as in hand."""
    stack.configure("[worker]\nlease = 1.0\nin_hand = 100\n")  # what the dead hold
    stack.create("docs")
    fill(stack, 2000)
    for _ in range(8):
        before = len(stack.stored("docs"))
        with stack.worker() as worker:
            wait_until(partial(_has_moved, stack, before), 30)
            worker.kill()
    held = [json.loads(record)[0] for record in stack.broker.hvals(RECORDS[0])]
    queued = [json.loads(message) for message in stack.broker.lrange("embedq.docs", 0, -1)]
    seen = {message["headers"]["id"] for message in [*held, *queued]}
    assert len(stack.stored("docs")) + len(seen) >= 2000


def test_sigterm_gives_back_what_was_not_begun(stack: Stack) -> None:
    """Calls in flight are stored, the rest is in the queue again at once, nothing is billed twice."""
    stack.create("docs")
    stack.configure('[models."text-embedding-3-small"]\nmax_concurrency = 1\nmax_inputs = 10\n')
    stack.api.configure(latency=0.3)
    fill(stack, 200)
    with stack.worker() as worker:
        stack.api.wait_for(calls=2)
        assert worker.stop() == 0
    stored = len(stack.stored("docs"))
    assert 10 <= stored < 200
    assert stack.broker.hlen(RECORDS[0]) == 0
    assert stack.broker.llen("embedq.docs") == 200 - stored
    stack.api.configure(latency=0)
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 200
    assert stack.api.stats().billed_again == 0


def test_a_cut_connection_does_not_restart_jobs(stack: Stack) -> None:
    """What is in hand stays in hand; its acknowledgement goes over the new connection."""
    stack.create("docs")
    stack.api.configure(latency=1.0)
    fill(stack, 50)
    with stack.worker():
        stack.api.wait_for(calls=1)
        stack.broker.client_kill_filter(_type="normal", skipme=True)
        stack.wait_until_done()
        fill(stack, 100)
        wait_until(lambda: len(stack.stored("docs")) == 100, 20)
        stack.wait_until_done()
    assert stack.api.stats().billed_again == 0


def test_the_database_is_away(stack: Stack) -> None:
    """The vectors in hand are kept and written when it is back: nothing is called again."""
    stack.create("docs")
    with psycopg.connect(stack.database_url) as lock, stack.worker() as worker:
        lock.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        fill(stack, 100)
        stack.api.wait_for(calls=1)
        with psycopg.connect(stack.database_url, autocommit=True) as killer:
            wait_until(lambda: len(killer.execute(KILL_WORKERS).fetchall()) > 0, 10)
        lock.rollback()
        stack.wait_until_done()
        assert "Traceback" not in worker.output
    assert len(stack.stored("docs")) == 100
    assert stack.api.stats().billed_again == 0


def test_an_idle_worker_sleeps_in_the_server(stack: Stack) -> None:
    """Under 50 commands a second with several collections, and no busy loop."""
    for number in range(5):
        stack.create(f"docs{number}")
    with stack.worker():
        wait_until(lambda: stack.broker.exists("embedq:registry") == 1, 10)
        before, started = stack.broker.info("stats")["total_commands_processed"], time.monotonic()
        calls = stack.broker.info("commandstats")["cmdstat_evalsha"]["calls"]
        time.sleep(2)  # a rate is what is measured
        seconds = time.monotonic() - started
        fetches = (stack.broker.info("commandstats")["cmdstat_evalsha"]["calls"] - calls) / seconds
        commands = (stack.broker.info("stats")["total_commands_processed"] - before) / seconds
    assert fetches < 25
    assert commands < 25 * 20


def test_a_prefix_separates_installations(stack: Stack) -> None:
    """Every key of worker and producer has it."""
    stack.environment["EMBEDQ_KEY_PREFIX"] = "mine:"
    stack.create("docs")
    with stack.worker(), stack.producer(key_prefix="mine:") as producer:
        producer.enqueue("docs", id="1", text="prefixed")
        assert len(producer.embed_query("docs", "a question")) == 64
        wait_until(lambda: stack.stored("docs") == {"1": "prefixed"}, 20)
        wait_until(lambda: stack.broker.hlen("mine:embedq:unacked") == 0, 20)
    strays = [key for key in map(bytes, stack.broker.scan_iter()) if not key.startswith(b"mine:")]
    assert strays == []
