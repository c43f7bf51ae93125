"""A group of messages arrives once, whatever happens to the connection, and never in a queue that is full."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import redis

from embedq import (
    AsyncProducer,
    BrokerUnavailable,
    ConfigurationError,
    InvalidItem,
    Item,
    Producer,
    QueueFull,
)
from embedq.contract import WAKE_KEY
from tests.support.producers import Kind
from tests.support.proxy import Proxy
from tests.support.queued import items, register


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    """A client of the broker, where ``docs`` is registered."""
    with redis.Redis.from_url(broker_url) as connection:
        register(connection, docs="clock")
        yield connection


@pytest.fixture
def proxy(broker_url: str) -> Iterator[Proxy]:
    """A line to the broker that can be cut."""
    with Proxy(urlsplit(broker_url).port or 6379) as line:
        yield line


def url(proxy: Proxy) -> str:
    """The broker, over the line."""
    return f"redis://127.0.0.1:{proxy.port}/0"


def test_a_lost_answer_pushes_nothing_twice(proxy: Proxy, client: redis.Redis, kind: Kind) -> None:
    """Redis has pushed the messages, and the connection breaks before it says so: they are there once."""
    with kind(url(proxy)) as producer:
        producer.enqueue("docs", id="first", text="text")
        proxy.cut_answer()
        assert producer.enqueue_many("docs", (Item(str(number), "text") for number in range(300))) == 300

    assert proxy.cuts == 1
    assert [item.id for item in items(client, "embedq.docs")] == ["first", *map(str, range(300))]


def test_a_lost_answer_of_a_full_queue(proxy: Proxy, client: redis.Redis, kind: Kind) -> None:
    """The second time it is told how many of its messages the first had room for."""
    with kind(url(proxy), max_queue_length=2) as producer:
        producer.enqueue("docs", id="first", text="text", lane="bulk")
        proxy.cut_answer()
        with pytest.raises(QueueFull) as refused:
            producer.enqueue_many("docs", (Item(str(number), "text") for number in range(256 * 3)))

    assert proxy.cuts == 1
    assert refused.value.enqueued == 512
    assert client.llen("embedq.docs") == 2


def test_scripts_are_sent_where_they_are_missing(broker_url: str, client: redis.Redis, kind: Kind) -> None:
    """After Redis forgot its scripts, as in a restart or a failover."""
    with kind(broker_url) as producer:
        producer.enqueue("docs", id="1", text="text")
        client.script_flush()
        producer.enqueue("docs", id="2", text="text")

    assert [item.id for item in items(client, "embedq.docs")] == ["1", "2"]


def test_markers_lapse(broker_url: str, client: redis.Redis) -> None:
    """What Redis remembers of a group has a short life; items wake nobody."""
    with Producer(broker_url) as producer:
        producer.enqueue("docs", id="1", text="text")
    (marker,) = client.keys("embedq:sent:*")

    assert 5 < client.ttl(marker) <= 15
    assert client.llen(WAKE_KEY) == 0


def test_a_forked_process_has_connections_of_its_own(broker_url: str, client: redis.Redis) -> None:
    """A producer made before the fork serves both processes."""
    with Producer(broker_url) as producer:
        producer.enqueue("docs", id="1", text="text")
        child = os.fork()
        if not child:
            try:
                producer.enqueue("docs", id="2", text="text")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        producer.enqueue("docs", id="3", text="text")

    assert [item.id for item in items(client, "embedq.docs")] == ["1", "2", "3"]


def test_a_full_queue_is_waited_for(broker_url: str, client: redis.Redis, kind: Kind) -> None:
    """With ``block`` everything arrives in its order, and the queue is never longer than allowed."""
    lengths: list[int] = []
    taken: list[object] = []

    def drain() -> None:
        while len(taken) < 9:
            lengths.append(client.llen("embedq.docs"))
            if lengths[-1] == 2:
                taken.append(client.rpop("embedq.docs"))

    with kind(broker_url, max_queue_length=2, when_full="block") as producer:
        draining = threading.Thread(target=drain)
        draining.start()
        assert producer.enqueue_many("docs", [Item(str(n), "x" * 900_000) for n in range(10)]) == 10
        draining.join(20)

    assert max(lengths) == 2
    assert [item.id for item in items(client, "embedq.docs")] == ["9"]


def test_a_full_queue_is_waited_for_so_long(broker_url: str, client: redis.Redis, kind: Kind) -> None:
    """``full_timeout`` ends it; other lanes are not held up meanwhile."""
    client.lpush("embedq.docs", "a message")
    with kind(broker_url, max_queue_length=1, when_full="block", full_timeout=0.3) as producer:
        started = time.monotonic()
        with pytest.raises(QueueFull, match="1 message,") as refused:
            producer.enqueue("docs", id="1", text="text")
        assert 0.3 <= time.monotonic() - started < 3
        producer.enqueue("docs", id="1", text="text", lane="bulk")

    assert refused.value.enqueued == 0
    assert client.llen("embedq.docs") == 1


def test_many_producers_keep_the_limit_exactly(broker_url: str, client: redis.Redis) -> None:
    """Eight of them push at once: Redis itself looks at the length."""

    def push(number: int) -> int:
        with Producer(broker_url, max_queue_length=20) as producer:
            for item in range(10):
                try:
                    producer.enqueue("docs", id=f"{number}-{item}", text="text")
                except QueueFull:
                    return item
        return 10

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(push, range(8))) == 20
    assert client.llen("embedq.docs") == 20


@pytest.mark.parametrize(
    "settings",
    [
        {"max_queue_length": 0},
        {"when_full": "drop"},
        {"full_timeout": 0},
        {"query_cache_size": -1},
        {"query_cache_seconds": 0},
        {"source": ""},
        {"source": "shop\0"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_cannot_be_right(settings: dict[str, int], kind: Kind) -> None:
    """Each is named."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        kind("redis://127.0.0.1:1/0", **settings)


async def test_asynchronous_iterables(broker_url: str, client: redis.Redis) -> None:
    """Items and ids may come from one; the errors are those of any other."""

    async def stream(*texts: str) -> AsyncIterator[Item]:
        for number, text in enumerate(texts):
            await asyncio.sleep(0)
            yield Item(str(number), text)

    async def ids() -> AsyncIterator[str]:
        yield "0"

    async with AsyncProducer(broker_url) as producer:
        assert await producer.enqueue_many("docs", stream("text", "text")) == 2
        assert await producer.delete("docs", ids()) == 1
        with pytest.raises(InvalidItem) as refused:
            await producer.enqueue_many("docs", stream("text", "", "text"))
    assert refused.value.enqueued == 1
    assert [item.id for item in items(client, "embedq.docs")] == ["0", "1", "0", "0"]


async def test_a_long_list_leaves_turns_to_others(broker_url: str, client: redis.Redis) -> None:
    """What is packed before the first answer of Redis is waited for does not hold up the loop."""
    turns: list[int] = []
    ticks = 0

    def read() -> Iterator[Item]:
        for number in range(2_560):
            if number == 2_559:
                turns.append(ticks)
            yield Item(str(number), "text")

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async with AsyncProducer(broker_url) as producer:
        await producer.enqueue("docs", id="first", text="text")
        ticking = asyncio.create_task(tick())
        ticks = 0
        assert await producer.enqueue_many("docs", read()) == 2_560
        ticking.cancel()

    assert turns[0] >= 9
    assert client.llen("embedq.docs") == 11


async def test_tasks_share_a_producer(broker_url: str, client: redis.Redis) -> None:
    """Four hundred at once: nothing is lost, no version is given twice."""
    async with AsyncProducer(broker_url) as producer:
        await asyncio.gather(*(producer.enqueue("docs", id=str(n), text="text") for n in range(400)))
        assert len(client.client_list()) < 120
    arrived = items(client, "embedq.docs")

    assert {item.id for item in arrived} == {str(number) for number in range(400)}
    assert len({item.version for item in arrived}) == 400


async def test_queries_that_wait_hold_up_no_item(broker_url: str, client: redis.Redis) -> None:
    """More of them than a producer has connections for what is answered at once."""

    def waiting() -> int:
        return int(client.info("clients")["blocked_clients"])

    async with AsyncProducer(broker_url) as producer:
        asked = [asyncio.create_task(producer.embed_query("docs", "text", timeout=15)) for _ in range(110)]
        try:
            async with asyncio.timeout(14):
                while waiting() < len(asked):  # noqa: ASYNC110 # Redis tells nobody
                    await asyncio.sleep(0.01)
                await producer.enqueue("docs", id="1", text="text")
            assert not any(each.done() for each in asked)
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    assert [item.id for item in items(client, "embedq.docs")] == ["1"]


async def test_a_cancelled_call_leaves_the_producer_whole(proxy: Proxy, client: redis.Redis) -> None:
    """The answer that it did not wait for is taken for nobody else's."""
    async with AsyncProducer(url(proxy)) as producer:
        await producer.enqueue("docs", id="1", text="text")
        proxy.stall()
        call = asyncio.create_task(producer.enqueue("docs", id="2", text="text"))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        proxy.resume()
        assert await producer.waiting("docs", "bulk") == (0, 0)
        await producer.enqueue("docs", id="3", text="text")

    assert [item.id for item in items(client, "embedq.docs") if item.id != "2"] == ["1", "3"]


def test_every_event_loop_has_connections_of_its_own(broker_url: str, client: redis.Redis) -> None:
    """As where synchronous views run each call in a new loop."""
    producer = AsyncProducer(broker_url)

    async def enqueue() -> None:
        await producer.enqueue("docs", id="1", text="text")
        await producer.close()

    for _ in range(2):
        asyncio.run(enqueue())
    assert client.llen("embedq.docs") == 2


def test_loops_take_turns(broker_url: str, client: redis.Redis) -> None:
    """No loop's connections are taken by, or lost to, another's."""
    producer = AsyncProducer(broker_url)
    loops = asyncio.new_event_loop(), asyncio.new_event_loop()
    connections = []
    for _ in range(2):
        for loop in loops:
            loop.run_until_complete(producer.enqueue("docs", id="1", text="text"))
        connections.append({each["id"] for each in client.client_list()})
    for loop in loops:
        loop.run_until_complete(producer.close())
        loop.close()

    assert client.llen("embedq.docs") == 4
    assert connections[1] <= connections[0]


async def test_an_unreachable_broker_does_not_block_the_loop() -> None:
    """The loop goes on while it is tried."""
    turns = 0
    async with AsyncProducer("redis://127.0.0.1:1/0", check=False) as producer:
        call = asyncio.create_task(producer.enqueue("docs", id="1", text="text"))
        while not call.done():
            await asyncio.sleep(0.01)
            turns += 1
        with pytest.raises(BrokerUnavailable, match="ConnectionRefusedError"):
            await call
    assert turns > 50
