"""The producer against a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from celery import Celery

from embedq import (
    BrokerUnavailable,
    ConfigurationError,
    InvalidItem,
    Item,
    NoRegistry,
    Producer,
    QueueFull,
    RegistryError,
    UnknownCollection,
)
from embedq.contract import EMBED_TASK, ENQUEUED_AT_HEADER, REGISTRY_KEY
from tests.support.producers import Kind
from tests.support.queued import Message, body, items, jobs, messages, register

SECRET = "what the customer wrote"


@pytest.fixture
def producer(broker_url: str, redis_of_docs: redis.Redis, kind: Kind) -> Iterator[Producer]:  # noqa: ARG001 # the registry
    """A producer that knows both collections."""
    with kind(broker_url, source="shop-service") as one:
        yield one


def test_enqueue_puts_a_job_on_the_queue(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """One item with its text, metadata, source and a version near the broker's time."""
    producer.enqueue("docs", id="42", text=SECRET, metadata={"lang": "en"})
    seconds, microseconds = redis_of_docs.time()
    (job,) = jobs(redis_of_docs, "embedq.docs")
    (item,) = job.items

    assert (job.collection, job.source) == ("docs", "shop-service")
    assert (item.id, item.text, item.metadata, item.deleted) == ("42", SECRET, {"lang": "en"}, False)
    assert item.version == pytest.approx(seconds * 1_000_000 + microseconds, abs=2_000_000)


def test_lanes_have_their_queues(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """``bulk`` has a queue of its own; the lane of queries takes no items."""
    producer.enqueue("docs", id="42", text="text", lane="bulk")

    assert [item.id for item in items(redis_of_docs, "embedq.docs.bulk")] == ["42"]
    with pytest.raises(ConfigurationError, match="lane is 'query'"):
        producer.enqueue("docs", id="42", text="text", lane="query")


def test_the_message_is_that_of_a_celery_client(redis_of_docs: redis.Redis, broker_url: str) -> None:
    """Envelope, headers and properties have the keys, types and settings that Celery's own client writes."""
    with Producer(broker_url, source="shop-service") as producer:
        producer.enqueue("docs", id="42", text="text")
    ours = messages(redis_of_docs, "embedq.docs")[0]
    with Celery(broker=broker_url, set_as_current=False) as app:
        job = body(ours)[1]["job"]
        app.send_task(
            EMBED_TASK, kwargs={"job": job}, queue="embedq.plain", ignore_result=True, argsrepr="()",
            kwargsrepr=ours["headers"]["kwargsrepr"], shadow="embedq.embed:docs",
            headers={ENQUEUED_AT_HEADER: ours["headers"][ENQUEUED_AT_HEADER]},
        )  # fmt: skip
        app.pool.force_close_all()
    theirs = messages(redis_of_docs, "embedq.plain")[0]
    # send_task repeats these options among the properties, and names a reply queue that nothing replies to.
    for echo in ("argsrepr", "kwargsrepr", "shadow"):
        theirs["properties"].pop(echo, None)
    theirs["properties"]["reply_to"] = ""

    assert body(ours) == body(theirs)
    assert settings(ours) == settings(theirs)


def settings(message: Message) -> Message:
    """A message without its body, its ids and its queue."""
    task_id = message["headers"]["id"]
    text = json.dumps({**message, "body": None}).replace(task_id, "<id>")
    plain: Message = json.loads(text)
    plain["properties"]["delivery_tag"] = plain["headers"]["origin"] = None
    plain["properties"]["delivery_info"].pop("routing_key")
    return plain


def test_no_text_leaves_the_body(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """Headers and properties, which monitors show, hold counts and the collection, never text or metadata."""
    producer.enqueue_many("docs", [Item("42", SECRET, metadata={"note": SECRET}), Item("43", SECRET)])
    (message,) = messages(redis_of_docs, "embedq.docs")

    assert SECRET not in json.dumps({**message, "body": None})
    assert message["headers"]["shadow"] == "embedq.embed:docs"
    assert "2 items" in message["headers"]["kwargsrepr"]
    assert body(message)[1]["job"]["items"][0]["text"] == SECRET


def test_enqueue_many_packs_and_keeps_the_order(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """A generator of dicts and items arrives whole, in order, 256 to a message, with increasing versions."""
    sent = (
        {"id": str(number), "text": "text"} if number % 2 else Item(str(number), "text")
        for number in range(1_000)
    )

    assert producer.enqueue_many("docs", sent, lane="bulk") == 1_000
    assert [len(job.items) for job in jobs(redis_of_docs, "embedq.docs.bulk")] == [256, 256, 256, 232]
    arrived = items(redis_of_docs, "embedq.docs.bulk")
    versions = [item.version or 0 for item in arrived]
    assert [item.id for item in arrived] == [str(number) for number in range(1_000)]
    assert versions == sorted(set(versions))


def test_enqueue_many_streams(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """Messages are published while the iterable is still being read: it is never held whole."""
    published_meanwhile = []

    def large() -> Iterator[Item]:
        for number in range(20):
            published_meanwhile.append(redis_of_docs.llen("embedq.docs"))
            yield Item(str(number), "x" * 900_000)

    producer.enqueue_many("docs", large())

    assert 0 < published_meanwhile[-1] < 20
    assert redis_of_docs.llen("embedq.docs") == 20


def test_nothing_to_enqueue(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """An empty iterable makes no message."""
    assert producer.enqueue_many("docs", []) == 0
    assert redis_of_docs.llen("embedq.docs") == 0


def test_an_invalid_item_stops_after_the_good_ones(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """What came before it is enqueued and counted, what comes after it was not read."""
    stream = iter([Item("1", "text"), Item("2", "text"), Item("3", ""), Item("4", "text")])

    with pytest.raises(InvalidItem, match="item '3'") as refused:
        producer.enqueue_many("docs", stream)

    assert refused.value.enqueued == 2
    assert [item.id for item in items(redis_of_docs, "embedq.docs")] == ["1", "2"]
    assert [item.id for item in stream] == ["4"]


def test_on_invalid_lets_the_good_ones_through(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """Every bad item is given to the function, a too large one too; every good one is enqueued."""
    bad: list[InvalidItem] = []
    stream: list[Any] = [
        Item("1", "text"),
        42,
        {"id": "3", "text": "x" * (1 << 20)},
        {"id": "4", "text": "text"},
    ]

    assert producer.enqueue_many("docs", stream, on_invalid=bad.append) == 2
    assert [(error.item_id, error.rule) for error in bad] == [(None, "item_type"), ("3", "item_too_large")]
    assert [item.id for item in items(redis_of_docs, "embedq.docs")] == ["1", "4"]


def test_an_error_of_the_iterable_loses_nothing(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """What a generator yielded before it failed is enqueued; its own error comes through, another producer's
    too."""

    def failing(error: Exception) -> Iterator[Item]:
        yield Item("1", "text")
        raise error

    with pytest.raises(RuntimeError, match="the caller's"):
        producer.enqueue_many("docs", failing(RuntimeError("the caller's")))
    with pytest.raises(BrokerUnavailable, match="another Redis") as refused:
        producer.enqueue_many("docs", failing(BrokerUnavailable("another Redis")))

    assert refused.value.enqueued == 1
    assert [item.id for item in items(redis_of_docs, "embedq.docs")] == ["1", "1"]


def test_given_versions(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """A collection of given versions needs the caller's, a collection of the clock refuses them."""
    producer.enqueue("rows", id="42", text="text", version=7)

    assert [item.version for item in items(redis_of_docs, "embedq.rows")] == [7]
    with pytest.raises(InvalidItem, match="version_missing"):
        producer.enqueue("rows", id="42", text="text")
    with pytest.raises(InvalidItem, match="version_given"):
        producer.enqueue("docs", id="42", text="text", version=7)


def test_delete(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """Deletes are items without text; one string is not several ids."""
    assert producer.delete("docs", (identity for identity in ("42", "43"))) == 2
    assert producer.delete("rows", ["42"], version=8) == 1
    assert [(item.id, item.deleted, item.text) for item in items(redis_of_docs, "embedq.docs")] == [
        ("42", True, None),
        ("43", True, None),
    ]
    assert [item.version for item in items(redis_of_docs, "embedq.rows")] == [8]
    with pytest.raises(InvalidItem, match="ids_type"):
        producer.delete("docs", "42")


def test_an_unknown_collection_names_the_known(producer: Producer) -> None:
    """The error lists what is registered."""
    with pytest.raises(UnknownCollection, match=r"'docz' is not registered; registered: docs, rows"):
        producer.enqueue("docz", id="42", text="text")


def test_a_new_collection_is_seen_at_once(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """A miss reads the registry again, before the cached one grows old."""
    with pytest.raises(UnknownCollection):
        producer.enqueue("news", id="42", text="text")
    register(redis_of_docs, news="clock")
    producer.enqueue("news", id="42", text="text")

    assert redis_of_docs.llen("embedq.news") == 1


def test_the_registry_is_cached(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """Enqueueing again does not ask for the registry again."""
    producer.enqueue("docs", id="42", text="text")
    redis_of_docs.delete(REGISTRY_KEY)
    producer.enqueue("docs", id="43", text="text")

    assert redis_of_docs.llen("embedq.docs") == 2


def test_no_registry_is_its_own_error(broker_url: str, kind: Kind) -> None:
    """An empty Redis raises ``NoRegistry``; an empty registry knows that no collection exists."""
    with kind(broker_url) as producer, redis.Redis.from_url(broker_url) as client:
        with pytest.raises(NoRegistry, match="check=False"):
            producer.enqueue("docs", id="42", text="text")
        register(client)
        with pytest.raises(UnknownCollection, match="none yet"):
            producer.enqueue("docs", id="42", text="text")


def test_a_registry_that_cannot_be_read(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """What a later version may publish is an error that says what to do."""
    redis_of_docs.hset(REGISTRY_KEY, "docs", '{"model": "m", "dimensions": 3, "versions": "later"}')

    with pytest.raises(RegistryError, match="upgrade embedq"):
        producer.enqueue("docs", id="1", text="text")


def test_without_the_check(broker_url: str, kind: Kind) -> None:
    """``check=False`` needs no registry: given versions pass, missing ones come from the clock."""
    with kind(broker_url, check=False) as producer, redis.Redis.from_url(broker_url) as client:
        producer.enqueue("docs", id="1", text="text", version=7)
        producer.enqueue("docs", id="2", text="text")
        first, second = items(client, "embedq.docs")

        assert first.version == 7
        assert second.version is not None
        assert second.version > 10**15
        with pytest.raises(ConfigurationError, match="cannot name a collection"):
            producer.enqueue("docs; drop", id="42", text="text")


def test_a_full_queue(broker_url: str, redis_of_docs: redis.Redis, kind: Kind) -> None:
    """The queue is filled to the limit and not above; the error says how many items it took."""
    with kind(broker_url, max_queue_length=3) as producer:
        with pytest.raises(QueueFull, match="3 messages") as refused:
            producer.enqueue_many("docs", (Item(str(number), "text") for number in range(256 * 5)))
        assert refused.value.enqueued == 256 * 3
        assert redis_of_docs.llen("embedq.docs") == 3

        redis_of_docs.rpop("embedq.docs")
        producer.enqueue("docs", id="42", text="text")
        with pytest.raises(QueueFull):
            producer.enqueue("docs", id="43", text="text")
        producer.enqueue("docs", id="43", text="text", lane="bulk")


def test_a_queue_that_fills_midway(broker_url: str, redis_of_docs: redis.Redis, kind: Kind) -> None:
    """The stream ends at the first refusal: nothing behind it is read or tried, and ``enqueued`` is true."""
    stream = iter([Item(str(number), "x" * 900_000) for number in range(20)])
    with kind(broker_url, max_queue_length=2) as producer, pytest.raises(QueueFull) as refused:
        producer.enqueue_many("docs", stream)

    assert refused.value.enqueued == 2
    assert refused.value.__context__ is None
    assert [item.id for item in items(redis_of_docs, "embedq.docs")] == ["0", "1"]
    assert len(list(stream)) > 10


def test_threads_share_a_producer(broker_url: str, redis_of_docs: redis.Redis) -> None:
    """Eight threads enqueue at once: nothing is lost, no version is given twice."""
    with Producer(broker_url) as producer, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: producer.enqueue("docs", id=str(number), text="text"), range(400)))
    arrived = items(redis_of_docs, "embedq.docs")

    assert {item.id for item in arrived} == {str(number) for number in range(400)}
    assert len({item.version for item in arrived}) == 400


def test_a_host_application_is_left_alone(broker_url: str, redis_of_docs: redis.Redis) -> None:  # noqa: ARG001 # the registry
    """Importing and using the producer neither makes a Celery application nor follows the host's settings."""
    program = """
import os, sys
os.environ["CELERY_BROKER_URL"] = "redis://127.0.0.1:1/0"
from embedq import Producer
with Producer(sys.argv[1]) as producer:
    producer.enqueue("docs", id="42", text="text")
print("celery" in sys.modules)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program, broker_url], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "False"
