"""Leases over a real Redis: a model's limit holds over every process, and what the dead held is free again.

Several limiters in one event loop stand for several processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import redis.asyncio as redis

from embedq_worker.errors import LimiterAway
from embedq_worker.limiter import Grant, Limits
from embedq_worker.limiter.exchange import Reply, Request
from tests.support.callers import Caller, callers

LEASES = "embedq:model:m:leases"
NOWHERE = "redis://127.0.0.1:1/0"
ONE = Limits(1, concurrency="fixed")


@asynccontextmanager
async def a_full_redis(client: redis.Redis) -> AsyncIterator[None]:
    """It has no memory left, and says so to every write that needs some."""
    await client.config_set("maxmemory-policy", "noeviction")
    await client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await client.config_set("maxmemory", 0)


@asynccontextmanager
async def one(broker_url: str, limits: Limits = ONE, **options: float) -> AsyncIterator[Caller]:
    """One process, closed at the end."""
    async with callers(broker_url, 1, limits, **options) as found:
        yield found[0]


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 5.0) -> None:
    """Wait for what Redis tells nobody."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # Redis tells nobody
            await asyncio.sleep(0.01)


async def test_never_more_than_the_limit(broker_url: str) -> None:
    """Four processes want ten calls each, and the limit is three."""
    async with callers(broker_url, 4, Limits(3, concurrency="fixed")) as found:
        in_flight = most = 0

        async def work(caller: Caller) -> None:
            nonlocal in_flight, most
            caller.want(10)
            for _ in range(10):
                grant = await caller.grant()
                in_flight += 1
                most = max(most, in_flight)
                await asyncio.sleep(0.005)
                in_flight -= 1
                caller.release(grant)

        await asyncio.gather(*map(work, found))
    assert most == 3


async def test_models_do_not_share(broker_url: str) -> None:
    """One model's full limit is nothing to another."""
    first, second = Caller(broker_url, ONE, model="a"), Caller(broker_url, ONE, model="b")
    await first.call()
    await second.call()
    await first.close()
    await second.close()


async def test_a_dead_holders_lease_lapses(broker_url: str) -> None:
    """By the server's clock; nobody needs to free it, and who waits is told when to ask."""
    async with one(broker_url, lease=1) as dead, one(broker_url, lease=1) as alive:
        held = await dead.call()
        await dead.limiter.close()
        given = await alive.call()
        assert 1.0 <= (given.at - held.at) / 1000 < 2.0


async def test_a_call_that_lasts_keeps_its_lease(broker_url: str) -> None:
    """The lease is renewed as long as the call is in flight."""
    async with callers(broker_url, 2, ONE, lease=3) as (busy, other):
        held = await busy.call()
        other.want(1)
        assert await other.is_refused(4.5)
        busy.release(held)
        await other.grant()


async def test_a_lease_that_redis_forgot_is_entered_again(broker_url: str) -> None:
    """Redis was emptied; the call is still in flight and counts, and others wait for the life of a lease."""
    async with callers(broker_url, 2, Limits(2, concurrency="fixed"), lease=2) as (busy, other):
        held = await busy.call()
        other.release(await other.call())
        async with redis.from_url(broker_url) as client:
            await client.flushdb()
            await until(lambda: client.zscore(LEASES, held.holder))
        other.want(2)
        given = await other.grant()
        assert given.at - held.at >= 2000
        assert await other.is_refused(0.5)


async def test_a_fresh_redis_grants_at_once(broker_url: str) -> None:
    """Nobody knows of calls from before."""
    async with one(broker_url, lease=30) as caller:
        await caller.call(1)


async def test_a_slot_is_handed_over_at_once(broker_url: str) -> None:
    """Who waits gets what another frees, without asking: through the mailbox."""
    async with callers(broker_url, 2, ONE) as pair:
        busy, waiting = pair
        delays = []
        held = await busy.call()
        loop = asyncio.get_running_loop()
        for _ in range(11):
            waiting.want(1)
            await waiting.registered()
            await asyncio.sleep(0.005)  # until it looks into its mailbox
            began = loop.time()
            busy.release(held)
            held = await waiting.grant()
            delays.append(loop.time() - began)
            busy, waiting = waiting, busy
    assert sorted(delays)[len(delays) // 2] < 0.05


async def test_a_dead_process_is_handed_nothing(broker_url: str) -> None:
    """It waited and was killed: what goes to it comes back, and after three seconds nothing goes to it."""
    async with callers(broker_url, 3, ONE) as (busy, dead, alive):
        held = await busy.call()
        dead.want(32)
        await dead.registered()
        alive.want(30)
        await alive.registered()
        for task in [*dead.limiter._runs.values(), dead.limiter._mailbox]:  # as if it were killed
            assert task is not None
            task.cancel()
        busy.release(held)
        given: list[Grant] = []
        while not given or given[-1].at < given[0].at + 3000:
            given.append(await alive.grant(seconds=3))
            await asyncio.sleep(0.2)
            alive.release(given[-1])
        assert max(after.at - before.at for before, after in pairwise(given)) < 1700
        began = given[-1].at
        for _ in range(10):  # nothing is lost to it any more
            given.append(await alive.grant())
            alive.release(given[-1])
        assert given[-1].at - began < 900


async def test_who_stops_waiting_leaves_no_lease(broker_url: str) -> None:
    """A slot that comes too late for a want is given back."""
    async with callers(broker_url, 2, ONE) as (busy, fickle):
        held = await busy.call()
        fickle.want(1)
        await fickle.registered()
        busy.release(held)
        fickle.want(0)
        async with redis.from_url(broker_url) as client:
            await until(lambda: is_empty(client))


async def test_closing_ends(broker_url: str) -> None:
    """Also while an exchange is on its way, whose answer may come at that very moment."""
    for turn in range(20):
        caller = Caller(broker_url, Limits(3, concurrency="fixed"))
        caller.want(3)
        for _ in range(turn):
            await asyncio.sleep(0)
        await caller.close()
    async with redis.from_url(broker_url) as client:
        assert await client.zcard(LEASES) == 0


async def test_closing_gives_back_at_once(broker_url: str) -> None:
    """A worker that stops in order keeps nothing."""
    limits = Limits(3, concurrency="fixed")
    async with one(broker_url, limits) as stays:
        leaves = Caller(broker_url, limits)
        leaves.want(3)
        for _ in range(3):
            leaves.release(await leaves.grant())
        leaves.want(3)
        await leaves.grant()
        leaves.want(0)
        await leaves.close()
        async with redis.from_url(broker_url) as client:
            assert await client.zcard(LEASES) <= 1  # the call that did not end
            stays.want(2)
            await stays.grant(1)
            await stays.grant(1)


async def test_the_prefix_is_in_front_of_every_key(broker_url: str) -> None:
    """So that two installations can share a Redis."""
    mine = [Caller(broker_url, Limits(1, 600, 60_000), key_prefix="mine:") for _ in range(2)]
    held = await mine[0].call()
    mine[1].want(1)
    await mine[1].registered()
    mine[0].release(held)
    await mine[1].grant()
    async with redis.from_url(broker_url) as client:
        keys: list[bytes] = list(await client.keys())  # type: ignore[arg-type]  # nothing is decoded
    assert b"mine:embedq:model:m:leases" in keys
    assert all(key.startswith(b"mine:embedq:") for key in keys)
    for caller in mine:
        await caller.close()


async def test_while_redis_is_away_nobody_calls(caplog: pytest.LogCaptureFixture) -> None:
    """No answer is no permission; it is said once, with the error's class."""
    caplog.set_level(logging.WARNING)
    first, second = Caller(NOWHERE, ONE), Caller(NOWHERE, ONE)
    first.want(1)
    assert await first.is_refused(2)
    assert ["Redis is away (ConnectionError)" in message for message in caplog.messages] == [True]
    await first.close()
    await second.close()


async def test_it_says_that_redis_refuses(broker_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is there and answers with an error; that is not being away. Then it grants again."""
    caplog.set_level(logging.WARNING)
    async with one(broker_url) as caller, redis.from_url(broker_url) as client:
        await client.set(LEASES, "not leases")
        caller.want(1)
        async with asyncio.timeout(5):
            while not caplog.messages:  # noqa: ASYNC110  # a log tells nobody
                await asyncio.sleep(0.01)
        assert "Redis refuses our leases (ResponseError)" in caplog.messages[0]
        await client.delete(LEASES)
        await caller.grant()
    assert caplog.messages[1:] == ["Redis grants leases again"]


async def test_many_calls_may_end_at_once(broker_url: str) -> None:
    """None leaves its lease behind."""
    async with one(broker_url, Limits(300, concurrency="fixed")) as caller:
        grants: list[Grant] = []
        while len(grants) < 250:
            caller.want(min(32, 250 - len(grants)))
            grants.append(await caller.grant())
        caller.want(0)
        for grant in grants:
            caller.release(grant)
        async with redis.from_url(broker_url) as client:
            await until(lambda: is_empty(client))


async def test_a_lost_answer_leaves_no_lease(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script ran and granted; nobody heard. What is asked next makes up for it."""
    async with one(broker_url, Limits(4, concurrency="fixed")) as caller:
        lose_answers(caller, monkeypatch, 1)
        caller.want(2)
        held = [await caller.grant(), await caller.grant()]
        async with redis.from_url(broker_url) as client:
            assert await client.zcard(LEASES) == 2
            for grant in held:
                assert await client.zscore(LEASES, grant.holder)


async def test_a_call_is_settled_once(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end was heard and the answer lost, so that it is told twice."""
    async with one(broker_url, Limits(4, concurrency="fixed")) as caller:
        held = await caller.call()
        lose_answers(caller, monkeypatch, 2)
        caller.release(held, tokens=10)
        async with redis.from_url(broker_url) as client:
            await until(lambda: is_empty(client))
            later = await caller.call()
            assert await client.hget("embedq:model:m", "calls") == b"1"
            assert await client.zcard(LEASES) == 1
        caller.release(later)


async def test_a_full_redis_still_leases_and_renews(broker_url: str) -> None:
    """Else nothing would drain the queues that fill it; a call in flight keeps its lease."""
    async with redis.from_url(broker_url) as client, a_full_redis(client), one(broker_url, lease=3) as caller:
        with pytest.raises(redis.ResponseError):
            await client.set("key", "value")
        held = await caller.call(3)
        first = await client.zscore(LEASES, held.holder)
        await until(lambda: is_later(client, held.holder, first))
        caller.release(held)
        await until(lambda: is_empty(client))


async def is_empty(client: redis.Redis) -> bool:
    """Whether nobody holds a lease."""
    return not await client.zcard(LEASES)


async def is_later(client: redis.Redis, holder: str, first: float | None) -> bool:
    """Whether a lease that has not lapsed is renewed."""
    now = await client.zscore(LEASES, holder)
    assert now is not None, "the lease lapsed"
    assert first is not None
    return now > first


def lose_answers(caller: Caller, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The next answers of Redis do not arrive."""
    exchange, left = caller.gate._exchange, number

    async def lossy(request: Request) -> Reply:
        nonlocal left
        reply = await exchange(request)
        if left:
            left -= 1
            raise LimiterAway("no answer")
        return reply

    monkeypatch.setattr(caller.gate, "_exchange", lossy)
