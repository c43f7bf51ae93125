"""The limiter holds a model's limit over every process, and frees what the dead held."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio as redis

from embedq_worker.limiter import Limiter


async def test_never_more_than_the_limit(broker_url: str) -> None:
    """Forty callers in four limiters, as in four processes, and a limit of three."""
    limiters = [Limiter(broker_url, lease=30) for _ in range(4)]
    in_flight = most = 0

    async def call(limiter: Limiter) -> None:
        nonlocal in_flight, most
        slot = await limiter.gate("m", 3).acquire()
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0)
        in_flight -= 1
        await slot.release()

    await asyncio.gather(*(call(limiters[number % 4]) for number in range(40)))
    assert most == 3
    for limiter in limiters:
        await limiter.close()


async def test_models_do_not_share(broker_url: str) -> None:
    """One model's full limit is nothing to another."""
    limiter = Limiter(broker_url, lease=30)
    await limiter.gate("a", 1).acquire()
    async with asyncio.timeout(5):
        await limiter.gate("b", 1).acquire()
    await limiter.close()


async def test_a_dead_holders_lease_lapses(broker_url: str) -> None:
    """By the server's clock; nobody needs to free it."""
    dead = Limiter(broker_url, lease=1)
    await dead.gate("m", 1).acquire()
    alive = Limiter(broker_url, lease=1)
    async with asyncio.timeout(5):
        await alive.gate("m", 1).acquire()
    await dead.close()
    await alive.close()


async def test_a_call_that_lasts_keeps_its_lease(broker_url: str) -> None:
    """The lease is renewed as long as the call is in flight."""
    busy = Limiter(broker_url, lease=1)
    slot = await busy.gate("m", 1).acquire()
    keeping = asyncio.create_task(busy.keep_alive())
    other = Limiter(broker_url, lease=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.5):
            await other.gate("m", 1).acquire()
    await slot.release()
    async with asyncio.timeout(5):
        await other.gate("m", 1).acquire()
    keeping.cancel()
    await busy.close()
    await other.close()


async def test_a_lease_that_redis_forgot_is_entered_again(broker_url: str) -> None:
    """Redis was emptied; the call is still in flight and counts."""
    busy = Limiter(broker_url, lease=1)
    await busy.gate("m", 1).acquire()
    async with redis.from_url(broker_url) as client:
        await client.flushdb()
        keeping = asyncio.create_task(busy.keep_alive())
        async with asyncio.timeout(5):
            while not await client.zcard("embedq:leases:m"):  # noqa: ASYNC110  # Redis tells nobody
                await asyncio.sleep(0.01)
    keeping.cancel()
    await busy.close()


async def test_a_cancelled_caller_leaves_no_lease(broker_url: str) -> None:
    """A worker that stops while it waits for a slot does not take one with it."""
    limiter = Limiter(broker_url, lease=30)
    gate = limiter.gate("m", 1)
    held = await gate.acquire()
    waiting = asyncio.create_task(gate.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await held.release()
    async with redis.from_url(broker_url) as client:
        assert await client.zcard("embedq:leases:m") == 0
    await limiter.close()


async def test_the_prefix_is_in_front_of_every_key(broker_url: str) -> None:
    """So that two installations can share a Redis."""
    limiter = Limiter(broker_url, lease=30, key_prefix="mine:")
    await limiter.gate("m", 1).acquire()
    async with redis.from_url(broker_url) as client:
        assert await client.keys() == [b"mine:embedq:leases:m"]
    await limiter.close()


async def test_while_redis_is_away_nobody_calls() -> None:
    """No answer is no permission."""
    limiter = Limiter("redis://127.0.0.1:1/0", lease=30)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await limiter.gate("m", 1).acquire()
    await limiter.close()
