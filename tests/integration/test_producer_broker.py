"""The producer's broker: late, away, lost, refusing, shared, and at a wrong place."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from embedq import AsyncProducer, BrokerUnavailable, ConfigurationError, Item, Producer
from embedq.contract import EMBED_TASK, reply_key
from embedq_worker.embedded.valkey import Valkey
from tests.support.producers import Kind
from tests.support.queued import items, messages, register
from tests.support.stack import wait_until

SECRET = "what the customer wrote"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


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


class Doorway(threading.Thread):
    """A port that opens after ``delay`` seconds and leads one connection after the other to ``target``."""

    def __init__(self, target: int, delay: float) -> None:
        super().__init__(daemon=True)
        self.port = free_port()
        self._target = target
        self._delay = delay
        self._closed = threading.Event()

    def run(self) -> None:
        """Open, and lead connections through until ``close``."""
        self._closed.wait(self._delay)
        with socket.create_server(("127.0.0.1", self.port)) as door:
            door.settimeout(0.05)
            while not self._closed.is_set():
                with contextlib.suppress(TimeoutError):
                    threading.Thread(target=self._lead, args=[door.accept()[0]], daemon=True).start()

    def close(self) -> None:
        """Open no more."""
        self._closed.set()
        self.join(5)

    def _lead(self, guest: socket.socket) -> None:
        with guest, socket.create_connection(("127.0.0.1", self._target)) as host:
            both = {guest: host, host: guest}
            while True:
                for ready in select.select(list(both), [], [], 5)[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    both[ready].sendall(data)


def test_a_broker_that_comes_late(broker_url: str, client: redis.Redis, kind: Kind) -> None:
    """A broker that is away for a second costs that second, not an error."""
    doorway = Doorway(urlsplit(broker_url).port or 6379, delay=1.0)
    doorway.start()
    try:
        with kind(f"redis://127.0.0.1:{doorway.port}/0") as producer:
            producer.enqueue("docs", id="42", text="text")
    finally:
        doorway.close()

    assert [item.id for item in items(client, "embedq.docs")] == ["42"]


def test_an_unreachable_broker() -> None:
    """It is an error of its own within a few seconds, that names the place and hides the password.

    For asyncio it is tried in ``test_publishing.py``.
    """
    started = time.monotonic()
    with (
        Producer(f"redis://:hunter2@127.0.0.1:{free_port()}/0") as producer,
        pytest.raises(
            BrokerUnavailable, match=r"127\.0\.0\.1.*ConnectionRefusedError.*EMBEDQ_BROKER_URL"
        ) as refused,
    ):
        producer.enqueue("docs", id="42", text="text")

    assert "hunter2" not in str(refused.value) + repr(producer)
    assert time.monotonic() - started < 8


def test_a_broker_that_refuses(producer: Producer, client: redis.Redis) -> None:
    """A broker out of memory is named at once, without the message that it refused."""
    producer.enqueue("docs", id="1", text="text")
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(BrokerUnavailable, match="refused a command") as refused:
            producer.enqueue_many("docs", [Item(str(number), SECRET) for number in range(300)])
    finally:
        client.config_set("maxmemory", "0")

    assert refused.value.enqueued == 0
    assert refused.value.__cause__ is None or "LPUSH" not in str(refused.value.__cause__)
    assert client.llen("embedq.docs") == 1


def test_lost_connections_are_made_again(producer: Producer, client: redis.Redis) -> None:
    """A producer whose connections the broker cut goes on without an error."""
    producer.enqueue("docs", id="1", text="text")
    client.client_kill_filter(_type="normal", skipme=True)
    producer.enqueue("docs", id="2", text="text")

    assert [item.id for item in items(client, "embedq.docs")] == ["1", "2"]


def test_a_wrong_password(broker_url: str, kind: Kind) -> None:
    """A refused password is not retried, and not shown."""
    url = broker_url.replace("redis://", "redis://nobody:hunter2@")
    started = time.monotonic()
    with kind(url) as producer, pytest.raises(BrokerUnavailable) as refused:
        producer.enqueue("docs", id="42", text="text")

    assert "hunter2" not in str(refused.value)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("amqp://localhost", "scheme 'amqp'"),
        ("localhost:6379", "scheme"),
        ("redis://localhost/nought", "cannot be used"),
    ],
)
def test_a_wrong_url(url: str, problem: str, kind: Kind) -> None:
    """What cannot be a Redis is a mistake of the configuration."""
    with pytest.raises(ConfigurationError, match=problem), kind(url) as producer:
        producer.enqueue("docs", id="42", text="text")


def test_the_environment_names_the_broker(
    broker_url: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """``EMBEDQ_BROKER_URL`` and ``EMBEDQ_KEY_PREFIX`` are the defaults; without a URL it says so."""
    register(client, "team:", docs="clock")
    monkeypatch.setenv("EMBEDQ_BROKER_URL", broker_url)
    monkeypatch.setenv("EMBEDQ_KEY_PREFIX", "team:")
    with kind() as producer:
        producer.enqueue("docs", id="42", text="text")
    monkeypatch.delenv("EMBEDQ_BROKER_URL")

    assert client.llen("team:embedq.docs") == 1
    with pytest.raises(ConfigurationError, match="EMBEDQ_BROKER_URL"):
        kind()


def test_kombu_reads_prefixed_messages(broker_url: str, client: redis.Redis, kind: Kind) -> None:
    """A Celery consumer with the same prefix gets the job: the messages are normal ones."""
    register(client, "team:", docs="clock")
    with kind(broker_url, key_prefix="team:") as producer:
        producer.enqueue("docs", id="42", text="tëxt")
    with Celery(broker=broker_url, set_as_current=False) as app:
        app.conf.broker_transport_options = {"global_keyprefix": "team:"}
        with app.connection_for_read() as connection, connection.SimpleQueue("embedq.docs") as queue:
            message = queue.get(timeout=5)
            _, kwargs, _ = message.decode()
            message.ack()

    assert message.headers["task"] == EMBED_TASK
    assert kwargs["job"]["items"][0]["text"] == "tëxt"


def test_a_closed_producer_opens_again(producer: Producer, client: redis.Redis) -> None:
    """``close`` frees the connections; a later call makes new ones."""
    producer.enqueue("docs", id="1", text="text")
    producer.close()
    producer.close()
    producer.enqueue("docs", id="2", text="text")

    assert client.llen("embedq.docs") == 2


@pytest.fixture
def sentinel(valkey_server: Valkey, tmp_path: Path) -> Iterator[int]:
    """The port of a Sentinel that watches the session's Valkey as ``mymaster``."""
    port, settings = free_port(), tmp_path / "sentinel.conf"
    settings.write_text(f"port {port}\nsentinel monitor mymaster 127.0.0.1 {valkey_server.port} 1\n")
    with (
        subprocess.Popen(
            [program_of(valkey_server), str(settings), "--sentinel"], stdout=subprocess.DEVNULL
        ) as process,
        redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client,
    ):
        wait_until(lambda: answers(client), 10)
        yield port
        process.kill()


def program_of(server: Valkey) -> str:
    """The program that runs as the session's Valkey."""
    with redis.Redis.from_url(server.url) as client:
        executable: str = client.info("server")["executable"]
        return executable


def answers(client: redis.Redis) -> bool:
    """Whether a server is there."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_sentinels_name_the_master(sentinel: int, client: redis.Redis, kind: Kind) -> None:
    """Of several the first that answers."""
    url = f"sentinel://127.0.0.1:{free_port()};sentinel://127.0.0.1:{sentinel}/0?master_name=mymaster"
    with kind(url) as producer:
        producer.enqueue("docs", id="1", text="text")

    assert [item.id for item in items(client, "embedq.docs")] == ["1"]


async def test_tasks_wait_for_connections_to_the_master(
    sentinel: int, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do without Sentinels."""
    monkeypatch.setattr("embedq.async_broker.MAX_CONNECTIONS", 5)
    async with AsyncProducer(f"sentinel://127.0.0.1:{sentinel}/0?master_name=mymaster") as producer:
        await producer.enqueue("docs", id="first", text="text")
        await asyncio.gather(*(producer.enqueue("docs", id=str(n), text="text") for n in range(50)))
        assert len(client.client_list()) < 25

    assert client.llen("embedq.docs") == 51


def test_many_threads_ask_at_once(broker_url: str, client: redis.Redis) -> None:
    """Each has a connection of its own while it waits, however many there are."""
    with Producer(broker_url) as producer, ThreadPoolExecutor(120) as pool:
        asked = [pool.submit(producer.embed_query, "docs", "text", timeout=20) for _ in range(120)]
        wait_until(lambda: client.info("clients")["blocked_clients"] == 120, 15)
        for message in messages(client, "embedq.docs.query"):
            client.lpush(reply_key(message["headers"]["id"]), '{"v": 1, "vector": [0.5]}')
        vectors = [each.result() for each in asked]

    assert vectors == [[0.5]] * 120
