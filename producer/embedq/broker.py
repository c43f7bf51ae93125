"""The connection to Redis: opened when first needed, retried for a few seconds, foreign errors wrapped.

The commands go through a connection pool, from which each call takes a connection of its own, so that threads
do not wait for each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from embedq.address import Address, pools_of
from embedq.errors import EmbedqError
from embedq.publishing import Published, publish
from embedq.query import Deadline
from embedq.retries import Attempts, foreign_errors, is_demoted
from embedq.script import not_there
from embedq.steps import Command, Evaluate, Pause, Step, Steps

if TYPE_CHECKING:
    import redis

    from embedq.messages import Message

T = TypeVar("T")

GRACE_SECONDS = 0.5
"""How much later than a deadline Redis' answer to a blocking command may come."""
UNLIMITED = 1 << 31
"""Connections where the callers are limit enough; redis-py refuses the hundred and first otherwise."""


class Broker:
    """Redis by its address; ``prefix`` before every key is kombu's ``global_keyprefix``. Thread-safe."""

    def __init__(self, address: Address | str, prefix: str = "") -> None:
        self._address = Address(address) if isinstance(address, str) else address
        self._prefix = prefix
        self._lock = threading.Lock()
        self._redis: redis.Redis | None = None

    def __repr__(self) -> str:
        return f"<Broker {self._address.scheme}>"

    def key(self, name: str) -> str:
        """The name with the prefix before it."""
        return self._prefix + name

    def publish(self, messages: Sequence[Message]) -> Published:
        """Push messages of one queue, each once. Raises ``BrokerUnavailable``."""
        return self.run(publish(messages, self._prefix))

    def hash(self, name: str) -> dict[bytes, bytes]:
        """A whole hash."""
        fields: Any = self.call(lambda client: client.hgetall(self.key(name)))
        return dict(fields)

    def run(self, steps: Steps[T], deadline: Deadline | None = None) -> T:
        """Take the steps of a rule, one after the other, and return its result.

        Raises what the rule raises, and ``BrokerUnavailable``, which the rule hears of.
        """
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._take(step, deadline)
                except EmbedqError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result

    def _take(self, step: Step, deadline: Deadline | None) -> object:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        return self.call(partial(_execute, step, deadline), deadline)

    def call(self, command: Callable[[redis.Redis], T], deadline: Deadline | None = None) -> T:
        """Run ``command`` with a client, again while the connection fails, for a few seconds at most.

        Raises ``BrokerUnavailable``. Commands must bear to be run twice.
        """
        attempts: Attempts | None = None
        begun = time.monotonic()
        while True:
            client = self._client()
            try:
                return command(client)
            except foreign_errors() as error:
                if is_demoted(error):
                    client.connection_pool.disconnect(inuse_connections=False)
                until = deadline.at if deadline else None
                attempts = attempts or Attempts(self._address.where, begun, until)
                pause = attempts.pause(error)
            time.sleep(pause)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            client, self._redis = self._redis, None
        if client is not None:
            for pool in pools_of(client):
                pool.disconnect()

    def _client(self) -> redis.Redis:
        client = self._redis
        if client is None:
            with self._lock:
                client = self._redis = self._redis or self._open()
        return client

    def _open(self) -> redis.Redis:
        # Imported late: `import embedq` stays quick in services that rarely enqueue.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        options = {
            "retry": Retry(NoBackoff(), 0),
            "redis_connect_func": _greet,
            "max_connections": UNLIMITED,
        }
        if self._address.scheme != "sentinel":
            return self._address.open(redis.Redis.from_url, **options)
        from redis.sentinel import Sentinel

        sentinel: Any = Sentinel
        masters = sentinel(self._address.sentinels, **self._address.options, **options)
        master: redis.Redis = masters.master_for(**self._address.master)
        return master


def _execute(step: Step, deadline: Deadline | None, client: redis.Redis) -> object:
    """One attempt at a step, over a connection of its own."""
    if isinstance(step, Command):
        return _exchange(client, step.words, deadline)
    if isinstance(step, Evaluate):
        script, words = step.script, (len(step.keys), *step.keys, *step.arguments)
        try:
            return _exchange(client, ("EVALSHA", script.digest, *words), deadline)
        except not_there():
            return _exchange(client, ("EVAL", script.text, *words), deadline)
    assert not isinstance(step, Pause)
    pipe: Any
    with client.pipeline(transaction=True) as pipe:
        for command in step.commands:
            pipe.execute_command(*command.words)
        answers: list[object] = pipe.execute()
        return answers


def _exchange(client: Any, words: Sequence[Any], deadline: Deadline | None) -> object:
    """Send a command and read its answer: what ``execute_command`` does, at half the cost and in time."""
    import redis

    pool: Any = client.connection_pool
    connection = _checked_out(pool, deadline)
    try:
        connection.send_packed_command([_packed(words)], check_health=deadline is None)
        if deadline is not None and not connection.can_read(deadline.left + GRACE_SECONDS):
            raise redis.TimeoutError("no answer before the deadline")
        return client.parse_response(connection, words[0])
    except redis.ResponseError:
        raise
    except BaseException:
        connection.disconnect()  # its answer may come yet, and is nobody else's
        raise
    finally:
        pool.release(connection)


def _packed(words: Sequence[str | bytes | float]) -> bytes:
    """A command as Redis reads it; redis-py's own packing costs as much as a small item's message."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


class _Caller(threading.local):
    """Until when this thread's call lasts."""

    deadline: Deadline | None = None


_caller = _Caller()


def _checked_out(pool: Any, deadline: Deadline | None) -> Any:
    _caller.deadline = deadline
    try:
        return pool.get_connection()
    except TypeError:  # redis-py before 5.3 wants the command's name
        return pool.get_connection("_")
    finally:
        _caller.deadline = None


def _greet(connection: Any) -> None:
    """Exchange what precedes the first command on a new connection, within the time of the call."""
    if _caller.deadline is not None:
        connection._sock.settimeout(_caller.deadline.left + GRACE_SECONDS)
    connection.on_connect()
    connection._sock.settimeout(connection.socket_timeout)
