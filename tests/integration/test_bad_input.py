"""Bad input: each has its clear error, nothing else is lost, and no text is logged."""

from __future__ import annotations

import base64
import json
from typing import Any

import psycopg
import pytest

from embedq.testing.faults import BadText
from tests.support.stack import Stack, wait_until

CANARY = "canary-sentence-that-no-log-may-hold"


def letters(stack: Stack) -> list[tuple[Any, ...]]:
    """The dead letters: item, class and code."""
    return stack.sql("SELECT item_id, class, code FROM embedq.dead_letter ORDER BY item_id, code")


def push(stack: Stack, queue: str, message: bytes) -> None:
    """Push a raw message, as any client can."""
    stack.broker.lpush(queue, message)


def envelope(body: object, **changes: Any) -> bytes:
    """A message as kombu stores it."""
    stored = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "embedq.embed", "id": "an-id", "lang": "py"},
        "properties": {"delivery_tag": "same", "body_encoding": "base64", "delivery_info": {}},
        **changes,
    }
    return json.dumps(stored).encode()


def test_bad_items_from_a_stranger_die_alone(stack: Stack) -> None:
    """A client that checks nothing: its bad items are dead letters, their neighbours are stored."""
    stack.create("docs")
    items = [
        {"id": "good-1", "text": "good"},
        {"id": "empty", "text": ""},
        {"id": "nul", "text": f"{CANARY}\x00"},
        {"id": "surrogate", "text": f"{CANARY}\ud800"},
        {"id": "type", "text": 5},
        {"text": CANARY},
        CANARY,
        {"id": "good-2", "text": f"good {CANARY}"},
    ]
    with stack.client() as client, stack.worker("--loglevel", "DEBUG") as worker:
        job = {"v": 1, "collection": "docs", "items": items}
        client.send_task("embedq.embed", kwargs={"job": job}, queue="embedq.docs", ignore_result=True)
        wait_until(lambda: len(stack.stored("docs")) == 2, 20)
        stack.wait_until_done()
    assert letters(stack) == [
        ("empty", "text", "text_empty"),
        ("nul", "text", "text_nul"),
        ("surrogate", "text", "text_not_unicode"),
        ("type", "text", "wrong_type"),
        (None, "text", "wrong_type"),
        (None, "text", "wrong_type"),
    ]
    assert CANARY not in worker.output
    assert stack.sql("SELECT count(*) FROM embedq.dead_letter_text") == [(6,)]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"no json at all " + CANARY.encode(), "undecodable"),
        (b"[]", "undecodable"),
        (b'{"properties": {}}', "undecodable"),
        (envelope([[], {}, {}], headers={"task": "someone.elses", "id": "x"}), "unknown_task"),
        (envelope([[], {}, {}], headers={"task": "celery.backend_cleanup", "id": "x"}), "unknown_task"),
        (envelope([[], {}, {}], headers={}), "not_a_task"),
        (envelope("not a body"), "unreadable"),
        (envelope([[], {}, {}], **{"content-type": "application/x-python-serialize"}), "invalid_task"),
        (envelope([[], {}, {}]), "not_a_job"),
        (
            envelope(
                [[], {"job": {"v": 9, "collection": "docs", "items": [{"id": "1", "text": CANARY}]}}, {}]
            ),
            "unknown_version",
        ),
        (
            envelope([[], {"job": {"v": 1, "collection": "other", "items": [{"id": "1", "text": "x"}]}}, {}]),
            "wrong_queue",
        ),
    ],
)
def test_what_is_not_a_job_is_a_dead_letter(stack: Stack, message: bytes, code: str) -> None:
    """Nothing is dropped, nothing is logged, and the worker goes on."""
    stack.create("docs")
    with stack.worker("--loglevel", "DEBUG") as worker, stack.producer() as producer:
        push(stack, "embedq.docs", message)
        push(stack, "embedq.docs", message)  # with the same delivery tag, if it has one
        producer.enqueue("docs", id="after", text="the worker goes on")
        stack.wait_until_done()
    assert letters(stack) == [(None, "not_a_job", code)] * 2
    assert stack.stored("docs") == {"after": "the worker goes on"}
    assert CANARY not in worker.output


def test_the_service_refuses_one_text(stack: Stack) -> None:
    """The batch is split until the bad text is alone; all others are stored, within 13 calls for 64."""
    stack.create("docs")
    stack.api.inject(BadText(), marker="poison")
    with stack.worker("--loglevel", "DEBUG") as worker, stack.producer() as producer:
        items = [{"id": str(number), "text": f"text {number}"} for number in range(63)]
        producer.enqueue_many("docs", [*items[:20], {"id": "bad", "text": f"poison {CANARY}"}, *items[20:]])
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 63
    assert letters(stack)[0][:2] == ("bad", "text")
    assert stack.sql("SELECT status, attempts FROM embedq.dead_letter") == [(400, 7)]
    assert stack.api.stats().calls <= 13
    assert CANARY not in worker.output


def test_postgres_refuses_one_row(stack: Stack) -> None:
    """A constraint of one's own on the collection's table.

    The row is a dead letter, its neighbours are stored.
    """
    stack.create("docs")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute("ALTER TABLE docs ADD CHECK (content <> 'text 7')")
    with stack.worker() as worker, stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": str(number), "text": f"text {number}"} for number in range(64)])
        stack.wait_until_done()
    assert len(stack.stored("docs")) == 63
    assert letters(stack) == [("7", "row", "23514")]
    assert "text 7" not in worker.output


def test_a_text_beyond_the_models_characters(stack: Stack) -> None:
    """It is never sent."""
    stack.create("docs", model="voyage-2", dimensions=1024)
    stack.api.configure(dimensions=1024)
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="long", text="x" * 8001)
        stack.wait_until_done()
    assert letters(stack) == [("long", "text", "too_long")]
    assert stack.api.stats().calls == 0


def test_a_dead_letter_is_not_doubled(stack: Stack) -> None:
    """The same version that dies again adds an attempt."""
    stack.create("docs", "--versions", "given")
    stack.api.inject(BadText(), marker="poison")
    with stack.worker(), stack.producer() as producer:
        for _ in range(2):
            producer.enqueue("docs", id="bad", text="poison", version=1)
            stack.wait_until_done()
    assert stack.sql("SELECT attempts FROM embedq.dead_letter") == [(2,)]


def test_strangers_on_the_same_redis_are_left_alone(stack: Stack) -> None:
    """Another application's queue and unacknowledged messages are not touched."""
    stack.create("docs")
    stack.broker.lpush("celery", b"theirs")
    stack.broker.hset("unacked", "t", b"theirs")
    stack.broker.zadd("unacked_index", {"t": 1})
    with stack.worker(), stack.producer() as producer:
        producer.enqueue("docs", id="1", text="ours")
        stack.wait_until_done()
    assert stack.broker.lrange("celery", 0, -1) == [b"theirs"]
    assert stack.broker.hgetall("unacked") == {b"t": b"theirs"}
    assert stack.broker.zcard("unacked_index") == 1
