"""The connection to Redis: opened when first needed, retried for a few seconds, foreign errors wrapped.

kombu reads the URL, so that a producer takes the same ones as a worker (``redis://``, ``rediss://``,
``redis+socket://``, ``sentinel://``); only the plainest is read without it, since importing kombu takes as
long as many a command. The commands go through a connection pool, from which each call takes a connection of
its own, so that threads do not wait for each other.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from embedq.contract import MAX_WAKE_TOKENS, UNACKED_KEY, WAKE_KEY
from embedq.errors import BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    import redis

    from embedq.messages import Message

T = TypeVar("T")

RETRY_SECONDS = 3.0
"""How long lost or refused connections are tried again before ``BrokerUnavailable``."""
SOCKET_SECONDS = 5.0
"""How long one answer of Redis is waited for; above ``BLOCK_SECONDS``."""
_HEALTH_CHECK_SECONDS = 25
"""After so long without a command a connection is tried before it is used, as by kombu."""
BLOCK_SECONDS = 2.0
"""How long Redis is asked to block for a reply at a time."""
_PLAIN = re.compile(r"redis://[^/?#]+(/\d*)?")
"""A URL that redis-py reads as kombu does."""
_SCHEMES = ("redis", "rediss", "redis+socket", "socket", "unix", "sentinel")


def checking_certificates(url: str) -> str:
    """The URL of a broker over TLS such that kombu checks the server's certificate, which it does not by
    itself; one that says something of ``ssl_cert_reqs`` is left as it is."""
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


class Broker:
    """Redis by its URL; ``prefix`` stands before every key (kombu's ``global_keyprefix``). Thread-safe."""

    def __init__(self, url: str, prefix: str = "") -> None:
        scheme = url.partition("://")[0]
        if scheme not in _SCHEMES:
            raise ConfigurationError(
                f"the broker URL has the scheme {scheme[:20]!r}, not one of {', '.join(_SCHEMES)}; "
                "give it as redis://host:6379/0"
            )
        self._url = checking_certificates(url)
        self._prefix = prefix
        self._lock = threading.Lock()
        self._connection: Any = None
        self._redis: redis.Redis | None = None

    def __repr__(self) -> str:
        return f"<Broker {self._url.partition('://')[0]}>"

    def key(self, name: str) -> str:
        """The name with the prefix before it."""
        return self._prefix + name

    def time_us(self) -> int:
        """The broker's clock: microseconds since the epoch."""
        seconds, microseconds = self.call(lambda client: client.time())
        return int(seconds) * 1_000_000 + int(microseconds)

    def queue_length(self, queue: str) -> int:
        """Messages in a queue, those in hand not among them."""
        return int(self.call(lambda client: client.llen(self.key(queue))))

    def waiting(self, queue: str) -> tuple[int, int]:
        """Messages in a queue, and messages in hand of all queues, seen at one moment."""

        def ask(client: redis.Redis) -> list[Any]:
            with client.pipeline(transaction=True) as pipe:
                pipe.llen(self.key(queue))
                pipe.hlen(self.key(UNACKED_KEY))
                return list(pipe.execute())

        queued, in_hand = self.call(ask)
        return int(queued), int(in_hand)

    def publish(self, messages: Sequence[Message], *, wake: bool = False) -> None:
        """Push messages to their queues in one transaction: all of them, or none.

        After a lost connection they are pushed again, perhaps for the second time; versions make that
        harmless. ``wake`` also wakes a worker that waits for work.
        """

        def push(client: redis.Redis) -> None:
            with client.pipeline(transaction=len(messages) > 1 or wake) as pipe:
                for message in messages:
                    pipe.lpush(self.key(message.queue), message.payload)
                if wake:
                    pipe.lpush(self.key(WAKE_KEY), b"1")
                    pipe.ltrim(self.key(WAKE_KEY), 0, MAX_WAKE_TOKENS - 1)
                pipe.execute()

        self.call(push)

    def hash(self, name: str) -> dict[bytes, bytes]:
        """A whole hash."""
        fields: Any = self.call(lambda client: client.hgetall(self.key(name)))
        return dict(fields)

    def pop(self, name: str, timeout: float) -> bytes | None:
        """The first element that a list gets within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            # Redis takes 0 for "for ever".
            popped = self.call(partial(self._pop_once, self.key(name), max(0.01, min(left, BLOCK_SECONDS))))
            if popped is not None:
                return popped
        return None

    @staticmethod
    def _pop_once(key: str, seconds: float, client: redis.Redis) -> bytes | None:
        popped: Any = client.blpop([key], seconds)
        return bytes(popped[1]) if popped is not None else None

    def call(self, command: Callable[[redis.Redis], T]) -> T:
        """Run ``command`` with a client, again while the connection fails, for ``RETRY_SECONDS`` at most.

        Raises ``BrokerUnavailable``. Commands must bear to be run twice.
        """
        deadline = time.monotonic() + RETRY_SECONDS
        pause = 0.05
        while True:
            try:
                return command(self._client())
            except self._foreign_errors() as raised:
                error = _unwrapped(raised)
                self._leave_demoted(error)
                if not self._is_connection_loss(error) or time.monotonic() + pause > deadline:
                    raise self._unavailable(error) from _without_arguments(error)
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 # jitter, no secret
            pause = min(pause * 2, 1.0)

    def _leave_demoted(self, error: Exception) -> None:
        """After a failover the address leads to the new master; what is open stays with the old one."""
        import redis

        client = self._redis
        if isinstance(error, redis.ReadOnlyError) and client is not None:
            client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            connection, self._connection, self._redis = self._connection, None, None
        if connection is not None:
            connection.close()

    def _client(self) -> redis.Redis:
        client = self._redis
        if client is not None:
            return client
        connection, client = self._open()
        with self._lock:
            if self._redis is None:
                self._connection, self._redis = connection, client
                return client
            first = self._redis
        connection.close()  # another thread was first
        return first

    def _open(self) -> tuple[Any, redis.Redis]:
        # Imported late: `import embedq` stays quick in services that rarely enqueue.
        import redis

        sockets = {
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": RETRY_SECONDS,
            "socket_keepalive": True,
        }
        if _PLAIN.fullmatch(self._url):
            client = redis.Redis.from_url(self._url, health_check_interval=_HEALTH_CHECK_SECONDS, **sockets)
            return client, client
        # The retries are ours.
        options = {**sockets, "max_retries": 1, "interval_start": 0, "interval_step": 0}
        connection = _kombu().Connection(self._url, transport_options=options)
        try:
            return connection, redis.Redis(connection_pool=connection.default_channel.pool)
        except ValueError as error:
            connection.close()
            raise ConfigurationError(f"the broker URL cannot be used: {error}") from None
        except BaseException:
            connection.close()
            raise

    @staticmethod
    def _foreign_errors() -> tuple[type[Exception], ...]:
        import redis

        return redis.RedisError, _kombu().exceptions.OperationalError, OSError

    @staticmethod
    def _is_connection_loss(error: Exception) -> bool:
        """Whether trying again may help, where Redis has not answered no."""
        import redis

        if isinstance(error, redis.ReadOnlyError | redis.BusyLoadingError):
            return True  # it fails over, or starts
        return not isinstance(error, redis.ResponseError | redis.DataError | redis.AuthenticationError)

    def _unavailable(self, error: Exception) -> BrokerUnavailable:
        where = self._where()
        if self._is_connection_loss(error):
            return BrokerUnavailable(
                f"Redis at {where} did not answer for {RETRY_SECONDS:g} s ({type(error).__name__}): "
                "start it, or check EMBEDQ_BROKER_URL; what was being enqueued may or may not have arrived, "
                "enqueueing it again is safe"
            )
        return BrokerUnavailable(
            f"Redis at {where} refused a command ({_code(error)}): check its memory, this user's rights "
            "and the password in EMBEDQ_BROKER_URL"
        )

    def _where(self) -> str:
        """The URL without what may be secret: user, password, parameters."""
        return re.sub(r"(?<=://).*@", "", self._url).partition("?")[0]


def _kombu() -> Any:
    """kombu, which has no types, imported late."""
    import kombu
    import kombu.exceptions

    return kombu


def _unwrapped(error: Exception) -> Exception:
    """The error of Redis that kombu wrapped, if it wrapped one."""
    import redis

    cause = error.__cause__
    return cause if isinstance(cause, redis.RedisError) else error


def _code(error: Exception) -> str:
    """Redis's short code, such as ``OOM``, or the error's class: never arguments of a command."""
    first = str(error).rpartition("caused error: ")[2].partition(" ")[0]
    return first if first.isalpha() and first.isupper() else type(error).__name__


def _without_arguments(error: Exception) -> Exception | None:
    """The cause to show: redis-py quotes the failed command of a pipeline, and with it the message."""
    return None if "Command #" in str(error) else error
