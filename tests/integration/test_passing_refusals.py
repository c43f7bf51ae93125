"""What Redis refuses for a while is asked of it again, as after a lost connection, and takes effect once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import msgspec
import pytest
import redis

from embedq import BrokerUnavailable, Producer
from embedq.contract import QueryReply, reply_key
from embedq_worker.embedded.process import free_port
from tests.support.producers import Kind
from tests.support.queued import items, messages
from tests.support.stack import wait_until

Trouble = Callable[[redis.Redis], AbstractContextManager[None]]


@contextmanager
def without_replicas(server: redis.Redis) -> Iterator[None]:
    """NOREPLICAS: it takes no writes."""
    server.config_set("min-replicas-to-write", "1")
    try:
        yield
    finally:
        server.config_set("min-replicas-to-write", "0")


@contextmanager
def without_its_master(server: redis.Redis) -> Iterator[None]:
    """MASTERDOWN: it became a replica, and shows nothing that may be old."""
    server.config_set("replica-serve-stale-data", "no")
    server.replicaof("127.0.0.1", str(free_port()))
    try:
        yield
    finally:
        server.replicaof("NO", "ONE")
        server.config_set("replica-serve-stale-data", "yes")


@contextmanager
def as_a_replica(server: redis.Redis) -> Iterator[None]:
    """READONLY: it became a replica."""
    server.replicaof("127.0.0.1", str(free_port()))
    try:
        yield
    finally:
        server.replicaof("NO", "ONE")


@contextmanager
def under_a_script(server: redis.Redis) -> Iterator[None]:
    """BUSY: a script does not end."""
    server.config_set("lua-time-limit", "1")
    running = threading.Thread(target=_run_for_ever, args=[server])
    running.start()
    wait_until(lambda: _is_busy(server), 10)
    try:
        yield
    finally:
        server.script_kill()
        running.join(10)
        server.config_set("lua-time-limit", "5000")


def _run_for_ever(server: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="killed"):
        server.eval("while true do end", 0)


def _is_busy(server: redis.Redis) -> bool:
    try:
        server.exists("embedq.docs")
    except redis.ResponseError as error:
        return str(error).startswith("BUSY ")
    return False


TROUBLES = [
    pytest.param(without_replicas, "NOREPLICAS", id="no replicas"),
    pytest.param(without_its_master, "MASTERDOWN", id="no master"),
    pytest.param(as_a_replica, "READONLY", id="a replica"),
    pytest.param(under_a_script, "BUSY", id="a script"),
]


@pytest.fixture
def producer(broker_url: str, redis_of_docs: redis.Redis, kind: Kind) -> Iterator[Producer]:  # noqa: ARG001 # the registry
    """A producer that has been at work."""
    with kind(broker_url) as one:
        one.enqueue("docs", id="1", text="text")
        yield one


@pytest.mark.parametrize(("trouble", "code"), TROUBLES)
def test_a_refusal_passes(
    trouble: Trouble, code: str, producer: Producer, redis_of_docs: redis.Redis
) -> None:
    """What is enqueued meanwhile is there once, and a look at the queue is answered."""
    with ExitStack() as over:
        over.enter_context(trouble(redis_of_docs))
        with pytest.raises(redis.RedisError) as refused:
            redis_of_docs.lpush("other", code)
        ending = threading.Timer(0.2, over.close)
        ending.start()
        producer.enqueue("docs", id="2", text="text")
        ending.join(10)

    assert code.startswith(("MASTERDOWN", "READONLY")) or str(refused.value).startswith(code)
    assert producer.waiting("docs") == (2, 0)
    assert [item.id for item in items(redis_of_docs, "embedq.docs")] == ["1", "2"]


@pytest.mark.parametrize(("trouble", "code"), TROUBLES)
def test_a_refusal_stays(
    trouble: Trouble,
    code: str,
    producer: Producer,
    redis_of_docs: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the end it is named, with what is the matter; nothing was enqueued."""
    monkeypatch.setattr("embedq.retries.RETRY_SECONDS", 0.1)
    with (
        trouble(redis_of_docs),
        pytest.raises(BrokerUnavailable, match=rf"took no command for 0\.1 s \({code}\): [a-z]") as refused,
    ):
        producer.enqueue("docs", id="2", text="text")

    assert refused.value.enqueued == 0
    assert [item.id for item in items(redis_of_docs, "embedq.docs")] == ["1"]


def test_a_query_outlives_a_failover(producer: Producer, redis_of_docs: redis.Redis) -> None:
    """UNBLOCKED: the master that it waited at became a replica. It waits on at the next one."""
    vectors: list[list[float]] = []
    asking = threading.Thread(target=lambda: vectors.append(producer.embed_query("docs", "text")))
    asking.start()
    wait_until(lambda: redis_of_docs.info("clients")["blocked_clients"] == 1, 10)
    with as_a_replica(redis_of_docs):
        wait_until(lambda: redis_of_docs.info("clients")["blocked_clients"] == 0, 10)
    (message,) = messages(redis_of_docs, "embedq.docs.query")
    redis_of_docs.lpush(reply_key(message["headers"]["id"]), msgspec.json.encode(QueryReply(1, [0.5])))
    asking.join(10)

    assert vectors == [[0.5]]
