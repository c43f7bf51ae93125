"""Queries of the producer: a vector, an error, or no answer."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import redis

from embedq import (
    AsyncProducer,
    BrokerUnavailable,
    ConfigurationError,
    InvalidItem,
    Producer,
    QueryFailed,
    QueryTimeout,
    QueryVector,
)
from embedq.contract import QUERY_TASK, WAKE_KEY, QueryReply, reply_key
from embedq.query_cache import QueryCache
from tests.support.producers import Kind
from tests.support.proxy import Proxy
from tests.support.queued import Message, body, register

SECRET = "what the customer wrote"


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    """A client of the broker, where ``docs`` has versions of the clock and ``rows`` the caller's."""
    with redis.Redis.from_url(broker_url) as connection:
        register(connection, docs="clock", rows="given")
        yield connection


@pytest.fixture
def producer(broker_url: str, client: redis.Redis, kind: Kind) -> Iterator[Producer]:  # noqa: ARG001 # the registry
    """A producer that knows both collections."""
    with kind(broker_url, source="shop-service") as one:
        yield one


class OneWorker(threading.Thread):
    """Plays the worker for one query: takes the message from its queue and pushes ``reply``."""

    def __init__(self, broker_url: str, reply: bytes) -> None:
        super().__init__(daemon=True)
        self.message: Message = {}
        self._url = broker_url
        self._reply = reply

    def run(self) -> None:
        """Wait for the query and answer it."""
        with redis.Redis.from_url(self._url) as client:
            popped: Any = client.brpop(["embedq.docs.query"], 10)
            self.message = json.loads(popped[1])
            client.lpush(reply_key(self.message["headers"]["id"]), self._reply)


def answered(broker_url: str, producer: Producer, reply: bytes) -> tuple[QueryVector, Message]:
    """The vector and the message of a query that is answered with ``reply``."""
    worker = OneWorker(broker_url, reply)
    worker.start()
    try:
        return producer.embed_query("docs", SECRET), worker.message
    finally:
        worker.join(10)


def test_a_query_gets_its_vector(broker_url: str, producer: Producer, client: redis.Redis) -> None:
    """The message has the query as arguments and an end, wakes a worker, and shows no text."""
    vector, message = answered(broker_url, producer, msgspec.json.encode(QueryReply(1, [0.25, -1.5, 3.0])))
    expires = datetime.fromisoformat(message["headers"]["expires"])

    assert vector == [0.25, -1.5, 3.0]
    assert body(message)[1] == {"v": 1, "collection": "docs", "text": SECRET}
    assert message["headers"]["task"] == QUERY_TASK
    assert expires.timestamp() == pytest.approx(time.time() + 10, abs=5)
    assert SECRET not in json.dumps(message["headers"])
    assert client.llen(WAKE_KEY) == 1


def test_a_query_that_failed(broker_url: str, producer: Producer) -> None:
    """The worker's code and explanation come through; so does a reply that is none."""
    with pytest.raises(QueryFailed, match=r"the model is withdrawn \(model_withdrawn\)") as failed:
        answered(
            broker_url, producer, b'{"v":1,"error":"model_withdrawn","explanation":"the model is withdrawn"}'
        )
    assert failed.value.code == "model_withdrawn"

    for unreadable in (b"garbage", b'{"v":1}', b'{"v":2,"vector":[1.0]}', b'{"v":1,"vector":["a"]}'):
        with pytest.raises(QueryFailed, match="reply_unreadable"):
            answered(broker_url, producer, unreadable)


def test_a_query_nobody_answers(producer: Producer, client: redis.Redis) -> None:
    """It ends with its time; the tokens that wake workers do not pile up."""
    started = time.monotonic()
    with pytest.raises(QueryTimeout, match=r"'docs' within 0\.2 s"):
        producer.embed_query("docs", "text", timeout=0.2)
    assert 0.15 < time.monotonic() - started < 2

    client.lpush(WAKE_KEY, *[b"1"] * 200)
    with pytest.raises(QueryTimeout):
        producer.embed_query("docs", "text", timeout=0.05)
    assert client.llen(WAKE_KEY) == 64


def test_a_recent_query_is_not_asked_again(broker_url: str, client: redis.Redis, kind: Kind) -> None:
    """The same text of the same collection is answered from memory, until it is old or is wanted fresh."""
    old, new = (msgspec.json.encode(QueryReply(1, [0.5], number)) for number in (1, 2))
    with kind(broker_url, query_cache_size=2, query_cache_seconds=0.5) as producer:
        first, _ = answered(broker_url, producer, old)
        first.append(7.0)  # its caller's own
        again = producer.embed_query("docs", SECRET, timeout=0.1)
        assert (again, again.generation) == ([0.5], 1)
        with pytest.raises(QueryTimeout):
            producer.embed_query("docs", SECRET, timeout=0.1, fresh=True)
        with pytest.raises(QueryTimeout):
            producer.embed_query("rows", SECRET, timeout=0.1)
        assert client.delete("embedq.docs.query") == 1
        time.sleep(0.5)
        fresh, _ = answered(broker_url, producer, new)
        assert fresh.generation == 2


@pytest.mark.parametrize("size", [0, 2])
def test_the_oldest_vector_makes_room(size: int) -> None:
    """So many are kept and no more, those asked for last; 0 keeps none."""
    cache = QueryCache(size, 60.0)
    for text in ("a", "b"):
        cache.put("docs", text, QueryVector([1.0], 1), time.monotonic())
    cache.get("docs", "a")
    cache.put("docs", "c", QueryVector([1.0], 1), time.monotonic())

    assert [text for text in "abc" if cache.get("docs", text)] == (["a", "c"] if size else [])


def test_the_age_counts_from_the_question() -> None:
    """Not from the answer: meanwhile the collection may have moved to another model."""
    cache = QueryCache(2, 60.0)
    cache.put("docs", "a", QueryVector([1.0], 1), time.monotonic() - 61)

    assert cache.get("docs", "a") is None


@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.usefixtures("client")
def test_the_time_covers_a_redis_that_does_not_answer(broker_url: str, kind: Kind, is_new: bool) -> None:
    """A line that went dead, before anything was said or later, costs what the caller said, and not what an
    answer may take.
    """
    with (
        Proxy(urlsplit(broker_url).port or 6379) as proxy,
        kind(f"redis://127.0.0.1:{proxy.port}/0") as producer,
    ):
        if not is_new:
            producer.waiting("docs")
        proxy.stall()
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="did not answer in time"):
            producer.embed_query("docs", "text", timeout=0.2)
        assert time.monotonic() - started < 2


@pytest.mark.usefixtures("client")
async def test_a_cancelled_query_leaves_the_producer_whole(broker_url: str) -> None:
    """The connection that waited for its answer serves nobody else."""
    async with AsyncProducer(broker_url) as producer:
        call = asyncio.create_task(producer.embed_query("docs", "text"))
        while await producer.waiting("docs", "query") != (1, 0):  # noqa: ASYNC110 # Redis tells nobody
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await producer.waiting("docs", "query") == (1, 0)


@pytest.mark.parametrize(
    "text", ["", "  ", "a\x00b", "\ud800", 42, "x" * ((1 << 20) + 1)], ids=lambda text: repr(text)[:9]
)
def test_a_query_without_a_usable_text(producer: Producer, text: Any) -> None:
    """Queries follow the rules of texts."""
    with pytest.raises(InvalidItem, match=r"\(query\)"):
        producer.embed_query("docs", text)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9])
def test_a_timeout_that_cannot_be(producer: Producer, timeout: float) -> None:
    """It is refused, as what no date and no socket can hold."""
    with pytest.raises(ConfigurationError, match="give seconds above 0, 86,400 at most"):
        producer.embed_query("docs", "text", timeout=timeout)
