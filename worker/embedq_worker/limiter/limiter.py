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
from redis.exceptions import ConnectionError, RedisError  # noqa: A004  # the client's own, not the builtin

logger = logging.getLogger(__name__)

_ASK_AGAIN = 0.025
"""Seconds between two questions while other processes hold every lease; halved to doubled at random."""
_AWAY_WAIT = 1.0
"""Seconds between two questions while Redis is away."""


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
        """Free a holder's lease and let the next caller of this process ask."""
        self.holders.discard(holder)
        self._freed.set()
        await self._limiter.free(self, holder)


class Limiter:
    """Leases of all models, kept alive while their calls last. ``lease`` in seconds."""

    def __init__(self, broker_url: str, *, lease: float, key_prefix: str = "") -> None:
        self.key_prefix = key_prefix
        self._life = int(lease * 1000)
        # One retry, for a pooled connection that the server has closed; every script may run twice.
        self._redis: redis.Redis = redis.from_url(
            broker_url,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[ConnectionError],
        )
        self._acquire = self._redis.register_script(_script("acquire"))
        self._renew = self._redis.register_script(_script("renew"))
        self._gates: dict[str, Gate] = {}
        self._away = False

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
                self._note_away(error)
                await asyncio.sleep(_AWAY_WAIT * random.uniform(0.5, 1))  # noqa: S311 - jitter
            else:
                self._note_back()
                return float(wait) / 1000

    async def free(self, gate: Gate, holder: str) -> None:
        """Free a lease."""
        try:
            await self._redis.zrem(gate.key, holder)
        except (RedisError, OSError) as error:
            self._note_away(error)

    async def keep_alive(self) -> None:
        """Renew the leases of all calls in flight, for ever."""
        while True:
            await asyncio.sleep(self._life / 3000)
            for gate in list(self._gates.values()):
                if gate.holders:
                    with suppress(RedisError, OSError):  # they lapse only if it stays away for a lease
                        await self._renew(keys=[gate.key], args=[self._life, *gate.holders])

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _note_away(self, error: Exception) -> None:
        if not self._away:
            logger.warning("Redis is away, nothing is called until it is back: %s", type(error).__name__)
        self._away = True

    def _note_back(self) -> None:
        if self._away:
            logger.warning("Redis is back")
        self._away = False


def _script(name: str) -> str:
    return (files(__package__) / f"{name}.lua").read_text()
