"""How long queues are, and how old: without a look at more than one message of each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio

from embedq import Item, Producer
from embedq_worker.store.fleet.queues import QUEUES_AT_ONCE, Queue, read_queues, read_queues_async
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


def test_what_is_no_queue_is_unknown(broker: redis.Redis) -> None:
    """A key of another kind, by whoever: the others are told all the same."""
    broker.set("embedq.shop", "no list")
    broker.lpush(QUEUE, "message")
    found = read_queues(broker, ["embedq.shop", QUEUE])
    assert found == {"embedq.shop": Queue(0, None, None, is_known=False), QUEUE: Queue(1, None, None)}


async def test_many_queues_are_read_in_parts(broker: redis.Redis, broker_url: str) -> None:
    """The server does nothing else while a script runs: hundreds of collections must not hold it up."""
    names = [f"embedq.c{number}" for number in range(2 * QUEUES_AT_ONCE + 1)]
    broker.lpush(names[-1], "message")
    expected = {name: Queue(int(name == names[-1]), None, None) for name in names}
    before = _scripts_run(broker)
    assert read_queues(broker, names) == expected
    async with redis.asyncio.Redis.from_url(broker_url) as client:
        assert await read_queues_async(client, names) == expected
    assert _scripts_run(broker) - before == 6


def test_no_queues_are_read_without_a_question(broker: redis.Redis) -> None:
    """As before the first collection is made."""
    before = _scripts_run(broker)
    assert read_queues(broker, []) == {}
    assert _scripts_run(broker) == before


def _scripts_run(broker: redis.Redis) -> int:
    """Scripts that the server has run to their end."""
    found = broker.info("commandstats")
    calls = [found.get(f"cmdstat_{name}", {}) for name in ("eval", "evalsha")]
    return sum(each.get("calls", 0) - each.get("failed_calls", 0) for each in calls)
