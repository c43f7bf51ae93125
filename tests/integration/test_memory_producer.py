"""The producers that record, beside those that send."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import redis

from embedq import (
    BrokerUnavailable,
    ConfigurationError,
    InvalidItem,
    Producer,
    QueueFull,
    UnknownCollection,
)
from embedq.testing import AsyncMemoryProducer, MemoryProducer, vector_of
from tests.support.queued import items

ODD: list[dict[str, Any]] = [
    {"id": "1", "text": "a", "metadata": {"k": [1, None]}},
    {"id": "2", "text": ""},
    {"id": "", "text": "a"},
    {"id": "3", "text": "a\0"},
    {"id": "4", "text": "a", "version": 7},
    {"id": "5", "text": "a", "more": 1},
    {"id": "6", "text": "x" * (1 << 20)},
    {"id": "7", "deleted": True},
]


class Awaited:
    """Stands for a connection whose statements are awaited."""

    async def execute(self, *_: Any) -> None:
        """Nobody calls it."""
        raise AssertionError("the caller's connection was used")


@pytest.fixture
def producer() -> MemoryProducer:
    """One that knows ``docs`` and ``rows``."""
    return MemoryProducer(["docs"], given=["rows"], dimensions=3, source="shop")


def test_it_takes_and_refuses_what_a_producer_does(
    producer: MemoryProducer, redis_of_docs: redis.Redis, broker_url: str
) -> None:
    """The same items are enqueued, and the same rules broken, as by one that sends."""
    refused: list[list[InvalidItem]] = [[], []]
    with Producer(broker_url, source="shop") as real:
        counts = [
            each.enqueue_many("docs", ODD, on_invalid=errors.append)
            for each, errors in zip((producer, real), refused, strict=True)
        ]
    ours, theirs = producer.items("docs"), items(redis_of_docs, "embedq.docs")

    assert counts == [2, 2]
    assert [(i.id, i.text, i.metadata, i.deleted) for i in ours] == [
        (i.id, i.text, i.metadata, i.deleted) for i in theirs
    ]
    assert [str(error) for error in refused[0]] == [str(error) for error in refused[1]]
    with pytest.raises(UnknownCollection, match="registered: docs, rows"):
        producer.enqueue("docz", id="1", text="a")
    with pytest.raises(InvalidItem, match="version_missing"):
        producer.enqueue("rows", id="1", text="a")
    with pytest.raises(ConfigurationError, match="lane is 'query'"):
        producer.enqueue("docs", id="1", text="a", lane="query")


def test_what_would_be_stored(producer: MemoryProducer) -> None:
    """The newest text of an id, none of a deleted one; each item with its lane, version and source."""
    producer.enqueue("docs", id="1", text="first")
    producer.enqueue("docs", id="1", text="second", lane="bulk")
    producer.enqueue("docs", id="2", text="gone")
    producer.delete("docs", ["2"])
    producer.enqueue("rows", id="1", text="newer", version=9)
    producer.enqueue("rows", id="1", text="older", version=8)

    assert producer.texts("docs") == {"1": "second"}
    assert producer.item("rows", "1").text == "newer"
    assert [item.text for item in producer.items("docs", lane="bulk")] == ["second"]
    assert {each.source for each in producer.recorded} == {"shop"}
    versions = [item.version or 0 for item in producer.items("docs")]
    assert versions == sorted(set(versions))
    with pytest.raises(AssertionError, match="no item '3' was enqueued to docs; enqueued: '1', '2'"):
        producer.item("docs", "3")
    producer.forget()
    assert producer.recorded == []


def test_queries_are_answered(producer: MemoryProducer) -> None:
    """With the vector that the fake API gives a text."""
    prefixed = MemoryProducer(["docs"], dimensions=3, key_prefix="shop.")
    for each in (producer, prefixed):
        assert list(each.embed_query("docs", "a")) == vector_of("a", 3).tolist()
    assert [query.text for query in producer.queries] == ["a"]
    assert producer.recorded == []


def test_a_full_queue_and_a_redis_that_is_away() -> None:
    """Both are errors of the test's making; what was recorded before them stays."""
    with MemoryProducer(["docs"], max_queue_length=2) as producer:
        producer.enqueue("docs", id="1", text="a")
        producer.enqueue("docs", id="2", text="a")
        assert producer.waiting("docs") == (2, 0)
        with pytest.raises(QueueFull):
            producer.enqueue("docs", id="3", text="a")
        assert set(producer.texts("docs")) == {"1", "2"}
        producer.forget()
        producer.enqueue("docs", id="3", text="a")
        producer.memory.is_away = True
        with pytest.raises(BrokerUnavailable, match="is_away"):
            producer.enqueue("docs", id="4", text="a")
        assert set(producer.texts("docs")) == {"3"}


def test_what_a_transaction_enqueues(producer: MemoryProducer) -> None:
    """It is recorded with the caller's connection, under the outbox's rules; Redis is not asked."""
    transaction = object()
    producer.enqueue("docs", id="1", text="first")
    producer.memory.is_away = True
    assert producer.enqueue_in(transaction, "docs", id="1", text="second", metadata={"k": [1]}) == 1
    assert (
        producer.enqueue_many_in(transaction, "rows", [{"id": "2", "text": "a", "version": 7}], "bulk") == 1
    )
    assert producer.delete_in(transaction, "docs", ["3"]) == 1
    producer.memory.is_away = False
    producer.enqueue("docs", id="3", text="back")

    assert producer.texts("docs") == {"1": "second", "3": "back"}
    assert producer.item("docs", "1").metadata == {"k": [1]}
    assert [each.connection for each in producer.recorded] == [None, *[transaction] * 3, None]
    assert producer.waiting("docs") == (2, 0)


async def test_the_one_for_asyncio() -> None:
    """It records the same way, of asynchronous iterables too."""
    async with AsyncMemoryProducer(["docs"], dimensions=3) as producer:
        await producer.enqueue_many("docs", ({"id": str(number), "text": "a"} for number in range(300)))
        await producer.delete("docs", ["0"])
        vector = await producer.embed_query("docs", "a")

        assert await producer.enqueue_in(Awaited(), "docs", id="0", text="b") == 1

    assert len(producer.texts("docs")) == 300
    assert list(vector) == vector_of("a", 3).tolist()


def test_it_needs_no_extra() -> None:
    """Neither the packages of ``embedq[testing]`` nor a client of Redis are imported."""
    program = (
        "import sys\nfrom embedq.testing import MemoryProducer\n"
        "producer = MemoryProducer(['docs'])\nproducer.enqueue('docs', id='1', text='a')\n"
        "assert producer.texts('docs') == {'1': 'a'}\n"
        "print({'numpy', 'aiohttp', 'redis', 'celery'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)

    assert (ended.stdout, ended.stderr) == ("set()\n", "")


@pytest.mark.parametrize(
    "use",
    [
        "from embedq.testing import FakeAPI",
        "from embedq.testing import faults",
        "from embedq.testing import MemoryProducer\nMemoryProducer(['docs']).embed_query('docs', 'a')",
    ],
    ids=["api", "faults", "query"],
)
def test_what_needs_the_extra_names_it(use: str) -> None:
    """Where its packages are missing."""
    program = f"import sys\nsys.modules.update(numpy=None, aiohttp=None)\n{use}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)

    assert ended.stderr.endswith(": pip install 'embedq[testing]'\n")
