"""The users of docker/redis/users.acl do their work on a real server, and may do no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import redis
from celery import Celery
from redis.exceptions import AuthenticationError

from embedq import Producer
from embedq.broker import Broker
from embedq.testing import FakeAPI
from embedq_worker.embedded.valkey import Valkey
from embedq_worker.flower.overview import read_overview
from tests.support.redis_users import users_of
from tests.support.stack import Stack, wait_until

DOCKER = Path(__file__).parents[2] / "docker"


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The broker's URL for each user, of a server that has no other."""
    with Valkey() as server:
        yield users_of(server, tmp_path)


@pytest.fixture
def stack(urls: dict[str, str], database_url: str, fake_api: FakeAPI, tmp_path: Path) -> Iterator[Stack]:
    """Its commands and workers come as the worker, what looks after it as the admin."""
    made = Stack(urls["admin"], database_url, fake_api, tmp_path)
    made.environment["EMBEDQ_BROKER_URL"] = urls["worker"]
    yield made
    made.close()


def refusals(broker: redis.Redis) -> list[tuple[object, object, object]]:
    """What the server has refused, to whom."""
    return [(entry["username"], entry["reason"], entry["object"]) for entry in broker.acl_log()]


def test_everybody_can_do_their_work(stack: Stack, urls: dict[str, str]) -> None:
    """Items, a query, the take-over of a killed worker, status, events: nothing is refused."""
    stack.configure("[worker]\nmessage_lease = 3.0\n")
    stack.create("docs")
    with Producer(urls["producer"]) as producer, stack.worker() as first, stack.worker():
        stack.api.configure(latency=0.5)
        producer.enqueue_many("docs", [{"id": str(n), "text": f"text {n}"} for n in range(600)], lane="bulk")
        stack.api.wait_for(calls=1)
        first.kill()
        assert len(producer.embed_query("docs", "a question", timeout=20)) == 64
        stack.wait_until_done()
        watch(stack, urls["monitor"], lambda: producer.delete("docs", ["0"]))
        stack.wait_until_done()
        stack.command("limits", "set", "text-embedding-3-small", "--max-concurrency", "3")
    assert len(stack.stored("docs")) == 599
    assert refusals(stack.broker) == []


def watch(stack: Stack, url: str, do: Callable[[], object]) -> None:
    """Look as the monitor does: `status`, and what Flower uses: its page, Celery's remote control, events."""
    stack.environment["EMBEDQ_BROKER_URL"], workers = url, stack.environment["EMBEDQ_BROKER_URL"]
    assert '"docs"' in stack.command("status", "--json")
    stack.environment["EMBEDQ_BROKER_URL"] = workers
    broker = Broker(url)
    assert [line.name for line in read_overview(broker).collections] == ["docs"]
    broker.close()
    client = Celery("monitor", broker=url, set_as_current=False)
    succeeded = Event()
    with client.connection_for_read() as connection:
        receiver = client.events.Receiver(connection, handlers={"task-succeeded": lambda _: succeeded.set()})
        reading = Thread(target=capture, args=[receiver], daemon=True)
        patterns = stack.broker.pubsub_numpat()
        reading.start()
        wait_until(lambda: stack.broker.pubsub_numpat() > patterns, 10)
        client.control.enable_events()
        (answer,) = client.control.inspect(timeout=5, limit=1).ping().values()
        assert answer == {"ok": "pong"}
        do()
        assert succeeded.wait(20)
        receiver.should_stop = True
        reading.join(20)
    client.close()


def capture(receiver: Any) -> None:
    """Receive events until told to stop; if a test fails before that, end quietly."""
    with suppress(TimeoutError):
        receiver.capture(limit=None, timeout=20, wakeup=False)


REFUSED = {
    "producer": [
        "LRANGE embedq.docs 0 -1",
        "RPOP embedq.docs",
        "DEL embedq.docs",
        "LTRIM embedq.docs 1 0",
        "LPUSH celery x",
        "HGETALL embedq:unacked",
        "HSET embedq:registry docs {}",
        "HGETALL embedq:model:text-embedding-3-small",
        "HSET embedq:model:text-embedding-3-small:settings max_concurrency 1",
        "GET embedq:last_beat",
        "EVAL return(1) 1 embedq:unacked",
        "GET embedq.docs",
        "SCRIPT FLUSH",
        "KEYS *",
        "SCAN 0",
        "PUBLISH /0.celery.pidbox x",
        "PSUBSCRIBE *",
        "MONITOR",
        "CONFIG GET *",
        "ACL LIST",
        "FLUSHALL",
    ],
    "monitor": [
        "LRANGE embedq.docs 0 -1",
        "LPUSH embedq.docs x",
        "LPOP embedq.docs",
        "HGETALL embedq:unacked",
        "HGET embedq:unacked tag",
        "HSCAN embedq:unacked 0",
        "HSET embedq:registry docs {}",
        "HDEL embedq:model:text-embedding-3-small slots",
        "BLPOP embedq:reply:1 1",
        "KEYS *",
        "MONITOR",
        "CONFIG GET *",
        "FLUSHALL",
    ],
    "worker": [
        "LPUSH celery x",
        "GET session",
        "KEYS *",
        "MONITOR",
        "CONFIG GET *",
        "ACL LIST",
        "SHUTDOWN",
        "SCRIPT FLUSH",
        "FUNCTION DUMP",
        "FLUSHDB",
        "PSUBSCRIBE *",
    ],
    "health": ["GET embedq:last_beat", "INFO", "CLIENT LIST"],
}


@pytest.mark.parametrize("user", REFUSED)
def test_nobody_may_do_more(urls: dict[str, str], user: str) -> None:
    """A producer reads nobody's messages, a monitor changes nothing, a worker keeps to its own keys."""
    with redis.Redis.from_url(urls["admin"]) as admin:
        answers = {
            command: admin.execute_command("ACL DRYRUN", user, *command.split()) for command in REFUSED[user]
        }
    assert not [command for command, answer in answers.items() if answer == b"OK"]


def test_a_producers_script_may_do_no_more_than_the_producer(urls: dict[str, str]) -> None:
    """It has the queue for a key, and can neither read it nor take anything out."""
    with redis.Redis.from_url(urls["producer"]) as producer:
        producer.lpush("embedq.docs", "a message")
        for command in ("LRANGE', KEYS[1], 0, -1", "RPOP', KEYS[1]", "DEL', KEYS[1]"):
            with pytest.raises(redis.ResponseError, match=r"ACL|NOPERM"):
                producer.eval(f"return redis.call('{command})", 1, "embedq.docs")
        assert producer.llen("embedq.docs") == 1


def test_nobody_comes_in_without_a_password(urls: dict[str, str]) -> None:
    """The server's default user is off, and one without a password can only say PING."""
    address = urls["worker"].partition("@")[2]
    with redis.Redis.from_url(f"redis://{address}") as nobody, pytest.raises(AuthenticationError):
        nobody.ping()
    with redis.Redis.from_url(f"redis://health:any@{address}") as health:
        assert health.ping()
