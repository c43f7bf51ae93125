"""What strangers can do to a queue: nothing is lost, nothing stops the worker, nothing else is held up."""

from __future__ import annotations

import base64
import json
from typing import Any

import psycopg
import pytest

from tests.support.hands import FakeWorker
from tests.support.stack import Stack, wait_until

RECORDS = ("embedq:unacked", "embedq:unacked_index")
TASK_ID = "5b1a9a5e-93b8-4b22-a1bd-6d3d3ea9a9a1"


def job(*items: dict[str, Any], collection: str = "docs", **fields: Any) -> dict[str, Any]:
    """A job's keyword arguments."""
    return {"job": {"v": 1, "collection": collection, "items": list(items), **fields}}


def item(item_id: str = "1") -> dict[str, Any]:
    """A good item."""
    return {"id": item_id, "text": f"text {item_id}"}


def message(kwargs: dict[str, Any], task: str = "embedq.embed", **headers: Any) -> bytes:
    """A message as kombu stores it."""
    body = base64.b64encode(json.dumps([[], kwargs, {}]).encode()).decode()
    stored = {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": task, "id": TASK_ID, **headers},
        "properties": {"delivery_tag": "theirs", "body_encoding": "base64", "delivery_info": {}},
    }
    return json.dumps(stored).encode()


def codes(stack: Stack) -> list[str]:
    """The codes of the dead letters."""
    return [code for (code,) in stack.sql("SELECT code FROM embedq.dead_letter ORDER BY number")]


@pytest.mark.parametrize("name", ["query", "bulk", "live"])
def test_a_collection_named_like_a_lane(stack: Stack, name: str) -> None:
    """Its live queue is a live queue."""
    stack.create(name)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue(name, id="1", text="a text")
        producer.enqueue(name, id="2", text="another", lane="bulk")
        assert producer.embed_query(name, "a question")
        stack.wait_until_done()
    assert len(stack.stored(name)) == 2


def test_a_job_in_the_lane_of_queries_is_a_dead_letter(stack: Stack) -> None:
    """And a query among jobs; neither is answered with nothing."""
    stack.create("docs")
    stack.broker.lpush("embedq.docs.query", message(job(item())))
    query = {"v": 1, "collection": "docs", "text": "a question"}
    stack.broker.lpush("embedq.docs", message(query, task="embedq.query"))
    with stack.worker():
        stack.wait_until_done()
    assert codes(stack) == ["wrong_queue", "wrong_queue"]


def test_a_query_that_cannot_be_read_is_answered(stack: Stack) -> None:
    """With an error, not with silence."""
    stack.create("docs")
    query = {"v": 1, "collection": "docs", "text": "lone \ud800"}
    with stack.worker():
        stack.broker.lpush("embedq.docs.query", message(query, task="embedq.query"))
        reply = stack.broker.blpop([f"embedq:reply:{TASK_ID}"], timeout=10)
    assert reply is not None
    assert json.loads(reply[1])["error"] == "not_a_query"


def test_a_priority_is_no_grave(stack: Stack) -> None:
    """A stock client's priority puts messages into a list of their own; they are found."""
    stack.create("docs")
    with stack.client() as client, stack.worker():
        client.send_task(
            "embedq.embed", kwargs=job(item()), queue="embedq.docs", priority=5, ignore_result=True
        )
        wait_until(lambda: len(stack.stored("docs")) == 1, 15)
        wait_until(lambda: stack.broker.hlen(RECORDS[0]) == 0, 10)


def test_a_job_for_later_runs_now(stack: Stack) -> None:
    """``eta`` and ``countdown`` are ignored: they would fill the window."""
    stack.create("docs")
    with stack.client() as client, stack.worker():
        client.send_task(
            "embedq.embed", kwargs=job(item()), queue="embedq.docs", countdown=3600, ignore_result=True
        )
        wait_until(lambda: len(stack.stored("docs")) == 1, 15)
        stack.wait_until_done()


@pytest.mark.parametrize(
    "nested",
    [b"[" * 3000 + b"]" * 3000, message({"job": json.loads("[" * 900 + "]" * 900)})],
    ids=["envelope", "job"],
)
def test_a_deeply_nested_message(stack: Stack, nested: bytes) -> None:
    """It is buried; the worker goes on with the next."""
    stack.create("docs")
    stack.broker.lpush("embedq.docs", nested, message(job(item())))
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 1
    assert len(codes(stack)) == 1


@pytest.mark.parametrize("source", ["shop\x00", "shop \ud800", "s" * 100_000])
def test_a_source_that_cannot_be_stored(stack: Stack, source: str) -> None:
    """It costs no item, and holds up no other dead letter."""
    stack.create("docs")
    stack.broker.lpush("embedq.docs", message(job(item(), {"id": "bad", "text": ""}, source=source)))
    stack.broker.lpush("embedq.docs", message(job({"id": "other", "text": ""})))
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 1
    assert len(codes(stack)) == 2


def test_a_task_without_an_id_strands_nobody(stack: Stack) -> None:
    """Celery would miss the id with a KeyError, which kombu counts among the errors of a connection: the
    worker makes one up."""
    stack.create("docs")
    nameless = json.loads(message(job(item("nameless"))))
    del nameless["headers"]["id"]
    for raw in (json.dumps(nameless).encode(), *(message(job(item(str(number)))) for number in range(20))):
        stack.broker.lpush("embedq.docs", raw)
    with stack.worker() as worker:
        stack.wait_until_done()
        assert "Connection to broker lost" not in worker.output
    assert len(stack.stored("docs")) == 21
    assert codes(stack) == []


def test_a_header_says_nothing_about_a_job(stack: Stack) -> None:
    """Only what the consumer found out itself makes a message no job."""
    stack.create("docs")
    stack.broker.lpush("embedq.docs", message(job(item()), embedq_code="x" * 10_000, not_a_job="y"))
    with stack.worker():
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 1


def test_what_a_dead_worker_held_is_run_again(stack: Stack) -> None:
    """Byte for byte, whatever it is."""
    stack.configure("[worker]\nmessage_lease = 1.0\n")
    stack.create("docs")
    for raw in (message(job(item())), b"[]", b'no json ","" at all'):
        stack.broker.lpush("embedq.docs", raw)
    dead = FakeWorker(stack.broker, "dead")
    dead.beat()
    dead.fetch(9)
    dead.die()
    with stack.worker() as worker:
        wait_until(lambda: len(stack.stored("docs")) == 1, 30)
        stack.wait_until_done()
        assert "3 messages that the dead worker dead held are taken over" in worker.output
    assert codes(stack) == ["undecodable", "undecodable"]


def test_a_full_redis_can_be_drained(stack: Stack) -> None:
    """With noeviction and no memory left a worker works off the queue, and hands back what it holds."""
    stack.configure('[models."text-embedding-3-small"]\nmax_concurrency = 1\n[worker]\nin_hand = 4\n')
    stack.create("docs")
    stack.api.configure(latency=0.3)
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue_many("docs", [item(str(number)) for number in range(5000)])
        stack.api.wait_for(calls=1)
        stack.broker.config_set("maxmemory", 1 << 20)
        try:
            wait_until(lambda: len(stack.stored("docs")) > 1000, 30)
            assert worker.stop() == 0
        finally:
            stack.broker.config_set("maxmemory", 0)
    stored = len(stack.stored("docs"))
    assert 1000 < stored < 5000
    assert stack.broker.hlen(RECORDS[0]) == 0
    assert stack.broker.llen("embedq.docs") >= (5000 - stored) // 256


def test_a_worker_before_the_first_migration_says_what_to_do(stack: Stack, postgres_url: str) -> None:
    """Once, and serves when it is done."""
    stack.environment["EMBEDQ_DATABASE_URL"] = stack.database_url = postgres_url
    with stack.worker() as worker:
        wait_until(lambda: "run `embedq migrate`" in worker.output, 15)
        stack.command("migrate")
        stack.create("docs")
        with stack.producer() as producer:
            producer.enqueue("docs", id="1", text="at last")
        wait_until(lambda: len(stack.stored("docs")) == 1, 20)
        stack.wait_until_done()
        assert worker.output.count("run `embedq migrate`") == 1


def test_a_worker_that_is_newer_than_the_schema_says_what_to_do(stack: Stack) -> None:
    """A column that it reads is not there yet."""
    rename = "ALTER TABLE embedq.collection RENAME {} TO {}"
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(rename.format("on_too_long", "later").encode())
        with stack.worker() as worker:
            wait_until(lambda: "run `embedq migrate`" in worker.output, 15)
            connection.execute(rename.format("later", "on_too_long").encode())
