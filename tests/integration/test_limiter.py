"""The limiter holds a model's limit over every process, and frees what the dead held."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis

from embedq_worker.limiter import Limiter
from embedq_worker.limiter import limiter as module

LEASES = "embedq:leases:m"


@asynccontextmanager
async def a_full_redis(client: redis.Redis) -> AsyncIterator[None]:
    """It has no memory left, and says so to every write that needs some."""
    await client.config_set("maxmemory-policy", "noeviction")
    await client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await client.config_set("maxmemory", 0)


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


async def test_many_calls_may_end_at_once(broker_url: str) -> None:
    """More than there are connections: each waits for one, and none leaves its lease behind."""
    limiter = Limiter(broker_url, lease=30)
    gate = limiter.gate("m", 300)
    slots = await asyncio.gather(*(gate.acquire() for _ in range(250)))
    await asyncio.gather(*(slot.release() for slot in slots))
    async with redis.from_url(broker_url) as client:
        assert await client.zcard(LEASES) == 0
    await limiter.close()


async def test_a_renewal_does_not_revive_an_ended_call(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ends while its renewal is on the way."""
    limiter = Limiter(broker_url, lease=3)
    slot = await limiter.gate("m", 1).acquire()
    renew = limiter._renew  # a script of redis-py; nothing else tells when a renewal begins
    renewed = asyncio.Event()

    async def release_first(keys: list[str], args: list[str]) -> None:
        await slot.release()
        await renew(keys=keys, args=args)
        renewed.set()

    monkeypatch.setattr(limiter, "_renew", release_first)
    keeping = asyncio.create_task(limiter.keep_alive())
    async with redis.from_url(broker_url) as client:
        async with asyncio.timeout(5):
            await renewed.wait()
        async with asyncio.timeout(1):  # by itself it would lapse after three seconds
            while await client.zcard(LEASES):  # noqa: ASYNC110  # Redis tells nobody
                await asyncio.sleep(0.01)
    keeping.cancel()
    await limiter.close()


async def test_a_full_redis_still_leases(broker_url: str) -> None:
    """Else nothing would drain the queues that fill it."""
    limiter = Limiter(broker_url, lease=30)
    async with redis.from_url(broker_url) as client, a_full_redis(client):
        with pytest.raises(redis.ResponseError):
            await client.set("key", "value")
        async with asyncio.timeout(3):
            slot = await limiter.gate("m", 1).acquire()
        await slot.release()
        assert await client.zcard(LEASES) == 0
    await limiter.close()


async def test_a_full_redis_still_renews(broker_url: str) -> None:
    """A call in flight keeps its lease."""
    limiter = Limiter(broker_url, lease=1)
    async with redis.from_url(broker_url) as client:
        await limiter.gate("m", 1).acquire()
        first = await client.zrange(LEASES, 0, 0, withscores=True)
        async with a_full_redis(client):
            keeping = asyncio.create_task(limiter.keep_alive())
            async with asyncio.timeout(5):
                while await client.zrange(LEASES, 0, 0, withscores=True) in (first, []):
                    assert await client.zcard(LEASES), "the lease lapsed"
                    await asyncio.sleep(0.01)
        keeping.cancel()
    await limiter.close()


async def test_a_short_life_does_not_cut_a_long_one(broker_url: str) -> None:
    """Workers with different settings share a key, which lives as long as its last lease."""
    short, long = Limiter(broker_url, lease=1), Limiter(broker_url, lease=60)
    await long.gate("m", 2).acquire()
    slot = await short.gate("m", 2).acquire()
    async with redis.from_url(broker_url) as client:
        assert await client.pttl(LEASES) > 50_000
        before = await client.zscore(LEASES, slot.holder)
        keeping = asyncio.create_task(short.keep_alive())
        async with asyncio.timeout(5):
            while await client.zscore(LEASES, slot.holder) == before:  # noqa: ASYNC110  # Redis tells nobody
                await asyncio.sleep(0.01)
        assert await client.pttl(LEASES) > 50_000
    keeping.cancel()
    await short.close()
    await long.close()


async def test_the_next_caller_asks_when_the_lease_is_free(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking earlier, it would be told to wait, here for seconds."""
    monkeypatch.setattr(module, "_ASK_AGAIN", 20.0)
    limiter = Limiter(broker_url, lease=60)
    gate = limiter.gate("m", 1)
    free = limiter.free

    async def free_later(*arguments: object) -> None:
        await asyncio.sleep(0.1)  # ample for an early caller to ask
        await free(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(limiter, "free", free_later)
    held = await gate.acquire()
    waiting = asyncio.create_task(gate.acquire())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await held.release()
        await waiting
    await limiter.close()


async def test_a_release_that_hangs_does_not_hold_up_the_next_caller(
    broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is free (here by another's hand), though no answer says so."""
    limiter = Limiter(broker_url, lease=60)
    gate = limiter.gate("m", 1)
    held = await gate.acquire()
    waiting = asyncio.create_task(gate.acquire())
    await asyncio.sleep(0)
    answer = asyncio.Event()

    async def hang(*_: object) -> None:
        await answer.wait()

    monkeypatch.setattr(limiter, "free", hang)
    async with redis.from_url(broker_url) as client:
        await client.delete(LEASES)
    releasing = asyncio.create_task(held.release())
    async with asyncio.timeout(5):
        await waiting
    answer.set()
    await releasing
    await limiter.close()


async def test_it_says_that_redis_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the error's class."""
    caplog.set_level(logging.WARNING)
    limiter = Limiter("redis://127.0.0.1:1/0", lease=30)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await limiter.gate("m", 1).acquire()
    assert ["Redis is away (ConnectionError)" in message for message in caplog.messages] == [True]
    await limiter.close()


async def test_it_says_that_redis_refuses(broker_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is there and answers with an error; that is not being away. Then it grants again."""
    caplog.set_level(logging.WARNING)
    limiter = Limiter(broker_url, lease=30)
    async with redis.from_url(broker_url) as client:
        await client.set(LEASES, "not leases")
        waiting = asyncio.create_task(limiter.gate("m", 1).acquire())
        async with asyncio.timeout(5):
            while not caplog.messages:  # noqa: ASYNC110  # a log tells nobody
                await asyncio.sleep(0.01)
        assert "Redis refuses our leases (ResponseError)" in caplog.messages[0]
        await client.delete(LEASES)
        async with asyncio.timeout(5):
            await waiting
    assert caplog.messages[1:] == ["Redis grants leases again"]
    await limiter.close()
