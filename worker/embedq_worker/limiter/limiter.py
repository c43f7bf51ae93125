"""The limiter: no model has more calls in flight than its limit, over all processes of the fleet.

A call needs a lease, taken by ``acquire.lua``, renewed while the call lasts and freed when it ends. The
lease of a dead process lapses by itself. While Redis is away nothing is granted: nobody calls.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from contextlib import suppress
from importlib.resources import files

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (  # the client's own, not the builtin
    AuthenticationError,
    ConnectionError,  # noqa: A004
    RedisError,
    ResponseError,
)

logger = logging.getLogger(__name__)

_ASK_AGAIN = 0.025
"""Seconds between two questions while other processes hold every lease; halved to doubled at random."""
_AWAY_WAIT = 1.0
"""Seconds between two questions while Redis is away."""
_CONNECTIONS = 16
"""More callers than these wait for one to be free: a script runs for a fraction of a millisecond."""


class Slot:
    """A lease to one concurrent call; ``release`` it when the call has ended."""

    def __init__(self, gate: Gate, holder: str) -> None:
        self._gate = gate
        self.holder = holder

    async def release(self) -> None:
        """Free the lease; if Redis is away it lapses by itself."""
        await self._gate.release(self.holder)


class Gate:
    """One model's leases as this process sees them."""

    def __init__(self, limiter: Limiter, model: str, limit: int) -> None:
        self.model = model
        self.limit = limit
        self.key = f"{limiter.key_prefix}embedq:leases:{model}"
        self._limiter = limiter
        self.holders: set[str] = set()
        self._freed = asyncio.Event()

    async def acquire(self) -> Slot:
        """Wait for a lease and take it."""
        while True:
            self._freed.clear()
            if len(self.holders) < self.limit:
                holder = uuid.uuid4().hex
                wait = await self._ask(holder)
                if wait == 0:
                    self.holders.add(holder)
                    return Slot(self, holder)
                timeout: float | None = min(wait, _ASK_AGAIN) * random.uniform(0.5, 2)  # noqa: S311 - jitter
            else:
                timeout = None  # every lease that this process may have is its own
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._freed.wait()

    async def _ask(self, holder: str) -> float:
        try:
            return await self._limiter.ask(self, holder)
        except asyncio.CancelledError:  # it may have been granted on the way
            await asyncio.shield(self._limiter.free(self, holder))
            raise

    async def release(self, holder: str) -> None:
        """Free a holder's lease and let the next caller of this process ask.

        The next caller asks after the lease is free, or it would find none; a slow Redis does not hold it up.
        """
        self.holders.discard(holder)
        at_latest = asyncio.get_running_loop().call_later(_ASK_AGAIN, self._freed.set)
        try:
            await self._limiter.free(self, holder)
        finally:
            at_latest.cancel()
            self._freed.set()


class Limiter:
    """Leases of all models, kept alive while their calls last. ``lease`` in seconds."""

    def __init__(self, broker_url: str, *, lease: float, key_prefix: str = "") -> None:
        self.key_prefix = key_prefix
        self._life = int(lease * 1000)
        # One retry, for a pooled connection that the server has closed; every script may run twice.
        pool = redis.BlockingConnectionPool.from_url(
            broker_url,
            max_connections=_CONNECTIONS,
            timeout=20,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[ConnectionError],
        )
        self._redis: redis.Redis = redis.Redis.from_pool(pool)
        self._acquire = self._redis.register_script(_script("acquire"))
        self._renew = self._redis.register_script(_script("renew"))
        self._gates: dict[str, Gate] = {}
        self._trouble: str | None = None

    def gate(self, model: str, limit: int) -> Gate:
        """The gate to a model, with the fleet's limit of concurrent calls."""
        if model not in self._gates:
            self._gates[model] = Gate(self, model, limit)
        return self._gates[model]

    async def ask(self, gate: Gate, holder: str) -> float:
        """Ask for a lease: 0 when granted, else the seconds until one lapses by itself."""
        while True:
            try:
                wait = await self._acquire(keys=[gate.key], args=[gate.limit, holder, self._life])
            except (RedisError, OSError) as error:
                self._note_trouble(error)
                await asyncio.sleep(_AWAY_WAIT * random.uniform(0.5, 1))  # noqa: S311 - jitter
            else:
                self._note_back()
                return float(wait) / 1000

    async def free(self, gate: Gate, *holders: str) -> None:
        """Free leases."""
        try:
            await self._redis.zrem(gate.key, *holders)
        except (RedisError, OSError) as error:
            self._note_trouble(error)

    async def keep_alive(self) -> None:
        """Renew the leases of all calls in flight, for ever."""
        while True:
            await asyncio.sleep(self._life / 3000)
            for gate in list(self._gates.values()):
                if gate.holders:
                    await self._renew_all(gate)

    async def _renew_all(self, gate: Gate) -> None:
        holders = tuple(gate.holders)
        try:
            await self._renew(keys=[gate.key], args=[self._life, *holders])
        except (RedisError, OSError) as error:  # they lapse only if it stays away for a lease
            self._note_trouble(error)
        if ended := set(holders) - gate.holders:  # released on the way, and perhaps entered again after that
            await self.free(gate, *ended)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _note_trouble(self, error: Exception) -> None:
        trouble = _trouble(error)
        if trouble != self._trouble:
            logger.warning("%s", trouble)
        self._trouble = trouble

    def _note_back(self) -> None:
        if self._trouble:
            logger.warning("Redis grants leases again")
        self._trouble = None


def _trouble(error: Exception) -> str:
    """What is wrong with Redis, and what to do; only the class of the error, whose text may quote a key."""
    name = type(error).__name__
    if isinstance(error, ResponseError | AuthenticationError):
        return f"Redis refuses our leases ({name}), nothing is called until it grants them; look at its log"
    return f"Redis is away ({name}), nothing is called until it is back; look whether it runs"


def _script(name: str) -> str:
    return (files(__package__) / f"{name}.lua").read_text()
