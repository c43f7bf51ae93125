"""What Redis has of collections: the registry for producers, and messages that wait."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
import redis

from embedq.broker import Broker
from embedq.contract import REGISTRY_KEY, Registered, queue_name
from embedq.errors import ConfigurationError
from embedq_worker.store.collection import Collection
from embedq_worker.store.fleet.backlog import purge, purge_dropped, waiting
from embedq_worker.store.registry import publish_registry, read_registry


def make(name: str) -> Collection:
    """A collection as the registry sees it."""
    return Collection(
        id=1,
        name=name,
        table_schema="public",
        table_name=name,
        model="m",
        dimensions=8,
        vector_type="vector",
        versions="clock",
    )


def test_published_registry_forgets_dropped_collections(client: redis.Redis) -> None:
    """What is published replaces what was, under the prefix, and an empty registry has its mark."""
    publish_registry(client, [make("docs"), make("old")], "shop:")
    publish_registry(client, [make("docs")], "shop:")

    fields = client.hgetall("shop:" + REGISTRY_KEY)
    assert set(fields) == {b"", b"docs"}
    assert json.loads(fields[b"docs"]) == {"model": "m", "dimensions": 8, "versions": "clock"}

    publish_registry(client, [], "shop:")
    assert set(client.hgetall("shop:" + REGISTRY_KEY)) == {b""}


def test_published_registry_is_read_back(client: redis.Redis, broker_url: str) -> None:
    """Without its mark; and what somebody else has put there is told, with what to do."""
    with closing(Broker(broker_url, "shop:")) as broker:
        assert read_registry(broker) == {}
        publish_registry(client, [make("docs")], "shop:")
        assert read_registry(broker) == {"docs": Registered(model="m", dimensions=8, versions="clock")}
        for name, said in ((b"docs", b"{"), (b"docs", b"7"), (b"\xff", b"{}")):
            client.hset("shop:" + REGISTRY_KEY, name, said)
            with pytest.raises(ConfigurationError, match=r"shop:embedq:registry.*`embedq collection list`"):
                read_registry(broker)


def test_waiting_counts_lanes_and_hands(client: redis.Redis) -> None:
    """Messages are counted by lane, and in hand only those of this very collection."""
    client.lpush(queue_name("docs", "bulk"), "x", "y")
    client.lpush(queue_name("docs2"), "x")
    for tag, record in enumerate(
        (
            '[{"body":"embedq.docs"},"","embedq.docs2"]',
            '[{},"","embedq.docs"]',
            '[{}, "", "embedq.docs.bulk"]',
        )
    ):
        client.hset("embedq:unacked", str(tag), record)

    found = waiting(client, "docs")

    assert found.queued == {"query": 0, "live": 0, "bulk": 2}
    assert found.in_hand == 2
    assert not waiting(client, "elsewhere")
    assert purge(client, "docs") == 2
    assert waiting(client, "docs2").queued["live"] == 1


def test_a_dropped_collections_messages_are_purged(client: redis.Redis) -> None:
    """Those that wait, those in the hands of workers and those that killed theirs; others' stay."""
    client.lpush(queue_name("docs"), "x", "y")
    tags = {"p:embedq.docs:1.1": "embedq.docs", "killers:embedq.docs.bulk:7": "embedq.docs.bulk"}
    tags |= {"p:embedq.docs2:1.2": "embedq.docs2"}
    for tag, queue in tags.items():
        client.hset("embedq:unacked", tag, f'[{{}},"","{queue}"]')
        client.zadd("embedq:unacked_index", {tag: 0})

    assert purge_dropped(client, "docs") == 4

    assert not waiting(client, "docs")
    assert (
        client.hkeys("embedq:unacked")
        == client.zrange("embedq:unacked_index", 0, -1)
        == [b"p:embedq.docs2:1.2"]
    )
