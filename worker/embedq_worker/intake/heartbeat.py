"""The heartbeat renews this process's lease, and takes messages over from processes that are dead.

All that a process holds is leased with it. The engine's thread beats and not the hub, which stands still
while a worker stops; a worker whose engine stands still is as good as dead.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import cast

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from embedq_worker import names
from embedq_worker.intake.scripts import BEAT, LEAVE, TAKE_OVER
from embedq_worker.logs import get_logger
from embedq_worker.metrics.rescue import TAKEN_OVER
from embedq_worker.metrics.servers import REDIS_ERRORS
from embedq_worker.script import Script

logger = get_logger(__name__)

BEATS = 6
"""Beats in the time within which a dead worker's messages are taken over."""
LIFE = 4
"""Beats that a lease lives: together with the time until somebody looks, it stays within that time."""
SILENCE = 2
"""Beats without a word of anybody after which the server was away, not the workers."""
DEATHS = 3
"""Deaths of workers, while they ran a message alone, that make it a killer, if hardly another worker dies."""
GROUP_BYTES = 2 << 20
"""Bytes of messages that one script moves."""


class Heartbeat:
    """``seconds``: within which a dead worker's messages are taken over, ``[worker] message_lease``.

    ``on_taken_over`` is called when this process was taken for dead, on the engine's thread.
    """

    def __init__(
        self,
        broker_url: str,
        process: str,
        seconds: float,
        *,
        key_prefix: str = "",
        on_taken_over: Callable[[], None],
    ) -> None:
        self._url = broker_url
        self._process = process
        self._interval = seconds / BEATS
        self._prefix = key_prefix
        self._on_taken_over = on_taken_over
        self._renewed_at = -inf
        self._now = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_away = False

    @property
    def is_alive(self) -> bool:
        """Whether the lease has not lapsed: nobody else works on what is in hand. From any thread."""
        return monotonic() < self._renewed_at + LIFE * self._interval

    @property
    def renewed_at(self) -> float:
        """When the lease was last renewed, by the monotonic clock; minus infinity before the first time."""
        return self._renewed_at

    def hurry(self) -> None:
        """Beat now. From any thread; after its end it does nothing."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: a stopping process reads its last fetch
                self._loop.call_soon_threadsafe(self._now.set)

    async def run(self) -> None:
        """Beat until cancelled."""
        self._loop = asyncio.get_running_loop()
        client = redis.Redis.from_url(
            self._url,
            socket_timeout=max(1.0, 2 * self._interval),
            socket_connect_timeout=max(1.0, 2 * self._interval),
            retry=Retry(NoBackoff(), 1),  # for a connection that the server has closed
        )
        try:
            while True:
                self._now.clear()
                await self._try_to_beat(client)
                try:
                    async with asyncio.timeout(self._interval):
                        await self._now.wait()
                except TimeoutError:
                    pass
        finally:
            await self._leave(client)
            await client.aclose()

    async def _leave(self, client: redis.Redis) -> None:
        """End the lease, unless something is recorded in this process's name: the channel gives that back."""
        try:
            await self._run(client, LEAVE, [names.WORKERS, names.ALONE, names.INDEX], [self._process])
        except (RedisError, OSError):
            return  # it lapses by itself

    async def _try_to_beat(self, client: redis.Redis) -> None:
        try:
            if await self._beat(client):
                await self._take_over(client)
        except (RedisError, OSError) as error:
            REDIS_ERRORS.inc()
            if not self._is_away:
                logger.warning(
                    "redis_away",
                    "Redis is away, or refuses us ({error}): leases of messages in hand are not renewed; "
                    "look whether it runs, and at its log",
                    error=type(error).__name__,
                )
            self._is_away = True
        except Exception as error:
            # A defect of ours must not end the beat: all that is in hand hangs on it.
            logger.error(
                "heartbeat_failed", "the heartbeat failed, it goes on: {error}", error=type(error).__name__
            )

    async def _beat(self, client: redis.Redis) -> bool:
        """Renew; whether somebody is to be taken over."""
        began = monotonic()
        keys = [names.WORKERS, names.DEAD, names.TAKEN_OVER + self._process, names.LAST_BEAT, names.AMNESTY]
        arguments = [self._process, f"{LIFE * self._interval:.3f}", f"{SILENCE * self._interval:.3f}"]
        status, others = cast("tuple[bytes, int]", await self._run(client, BEAT, keys, arguments))
        if status == b"being taken over":
            self._on_taken_over()
            self._now.set()
            return True
        if status == b"taken over":
            logger.warning(
                "was_taken_over",
                "this process was silent for longer than its lease, others have its messages now; "
                "look whether the machine is overloaded or was paused, or raise [worker] message_lease",
            )
            self._on_taken_over()
        elif self._is_away:
            logger.warning("redis_back", "Redis is back, the leases of messages in hand are renewed")
        self._is_away = False
        self._renewed_at = began
        return bool(others)

    async def _take_over(self, client: redis.Redis) -> None:
        """Step after step, until nobody is left."""
        taken: Counter[tuple[bytes, bytes]] = Counter()
        until = monotonic() + self._interval  # then the own lease is renewed first
        while monotonic() < until and (reply := await self._take_one(client)):
            dead, messages, what = cast("tuple[bytes, int, bytes]", reply)
            taken[dead, what] += messages
            TAKEN_OVER.inc(messages)
        for (dead, what), messages in taken.items():
            if messages:
                _say_taken_over(what, messages, dead.decode())

    async def _take_one(self, client: redis.Redis) -> object:
        arguments = [self._prefix + names.TAKEN_OVER, str(GROUP_BYTES), str(DEATHS)]
        return await self._run(client, TAKE_OVER, names.TAKE_OVER_KEYS, arguments)

    async def _run(
        self, client: redis.Redis, script: Script, keys: Sequence[str], arguments: list[str]
    ) -> object:
        return await script.run_async(client, [self._prefix + key for key in keys], arguments)


def _say_taken_over(what: bytes, messages: int, worker: str) -> None:
    if what == b"suspects":
        logger.warning(
            "messages_taken_over",
            "{messages} messages that the dead worker {worker} held are taken over; one of them may have "
            "killed it, so they run apart from others",
            messages=messages,
            worker=worker,
        )
    elif what == b"killer":
        logger.warning(
            "killer_found",
            "{messages} message has killed its worker again and again while it ran alone, last {worker}; "
            "it becomes a dead letter",
            messages=messages,
            worker=worker,
        )
    elif what == b"query":
        logger.warning(
            "queries_dropped",
            "{messages} queries that the dead worker {worker} held are dropped, whoever asked has to ask "
            "again",
            messages=messages,
            worker=worker,
        )
