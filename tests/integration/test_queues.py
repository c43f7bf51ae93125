"""How long queues are, and how old: without a look at more than one message of each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import redis

from embedq import Item, Producer
from embedq_worker.store.queues import Queue, read_queues
from tests.support.queued import register

QUEUE = "embedq.docs"


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    """An empty Valkey."""
    with redis.Redis.from_url(broker_url) as client:
        yield client


def test_the_oldest_message_counts(broker: redis.Redis, broker_url: str) -> None:
    """Its age by the broker's clock, and its items; of an empty queue neither is known."""
    register(broker, docs="clock")
    with Producer(broker_url) as producer:
        producer.enqueue_many("docs", [Item(id=str(number), text="x" * 3_000) for number in range(300)])
    found = read_queues(broker, [QUEUE, "embedq.docs.bulk"])
    oldest = found[QUEUE].oldest
    assert found[QUEUE] == Queue(2, oldest, 256)
    assert oldest is not None
    assert 0 <= oldest < 20
    assert found["embedq.docs.bulk"] == Queue(0, None, None)


def test_a_prefix_is_part_of_the_key(broker: redis.Redis) -> None:
    """The answer is by the queue's own name."""
    broker.lpush("team:embedq.docs", "message")
    assert read_queues(broker, [QUEUE], "team:") == {QUEUE: Queue(1, None, None)}


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
def test_clients_write_json_in_their_own_way(broker: redis.Redis, separators: tuple[str, str]) -> None:
    """Headers before the body or after it; a text that quotes a header is not taken for it."""
    headers = {"kwargsrepr": "{'job': <2 items>}", "embedq_enqueued_at": time.time() - 100}
    body = 20_000 * 'a text of "embedq_enqueued_at": 5 and so on '
    for message in ({"headers": headers, "body": body}, {"body": body, "headers": headers}):
        broker.delete(QUEUE)
        broker.lpush(QUEUE, json.dumps(message, separators=separators), "a younger one")
        found = read_queues(broker, [QUEUE])[QUEUE]
        assert found.oldest == pytest.approx(100, abs=5)
        assert found.items == 2


@pytest.mark.parametrize("message", ["", "{", '{"embedq_enqueued_at": "now", "kwargsrepr": null}', "\\u0000"])
def test_what_says_nothing_is_counted(broker: redis.Redis, message: str) -> None:
    """Whatever a stranger pushes there."""
    broker.lpush(QUEUE, message)
    assert read_queues(broker, [QUEUE])[QUEUE] == Queue(1, None, None)


@pytest.mark.parametrize("digits", [4, 400, 5_000])
def test_numbers_that_no_message_has_say_nothing(broker: redis.Redis, digits: int) -> None:
    """One message must not take the numbers of all queues away: Python reads 4,300 digits and not more."""
    headers = {"kwargsrepr": f"{{'job': <{'9' * digits} items>}}"}
    broker.lpush(QUEUE, json.dumps({"headers": headers}))

    assert read_queues(broker, [QUEUE])[QUEUE] == Queue(1, None, None)
