"""What a call costs in the limiter: the real gates over a real Valkey, the calls only sleep."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any, cast

import redis

from embedq_worker.embedded.valkey import Valkey
from embedq_worker.limiter import CallOutcome, Flow, Grant, Limiter, Limits, Want
from tests.bench.report import Report

MODEL = "costed"
LIMIT = 20
LATENCY = 0.1
TOKENS = 1_000
LIMITS = Limits(LIMIT, requests_per_minute=1_000_000, tokens_per_minute=1_000_000_000)
"""Rates that never bind, so that all of the script has to be gone through."""
FLOWS = (Flow("live", "docs"), Flow("bulk", "docs"), Flow("live", "news"), Flow("bulk", "news"))
MANY = Want(32, TOKENS)
ALLOWED = 1_000.0
"""Microseconds."""
CLOSING = 10.0
"""Seconds after which a limiter that does not close is a failure."""


@dataclass(frozen=True)
class Cost:
    """Microseconds a call: scripts and mailboxes in Redis, all of Redis' processor time, ours."""

    scripts: float
    server: float
    own: float
    exchanges: float


class Caller:
    """Wants calls of every flow at all times."""

    def __init__(self, limiter: Limiter) -> None:
        self.calls = 0
        self._gate = limiter.gate(MODEL, LIMITS, on_grant=self._granted)
        self._tasks: set[asyncio.Task[None]] = set()
        for flow in FLOWS:
            self._gate.want(flow, MANY)

    def _granted(self, grant: Grant) -> None:
        self._gate.want(grant.flow, MANY)
        task = asyncio.create_task(self._call(grant))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call(self, grant: Grant) -> None:
        await asyncio.sleep(_latency())
        self.calls += 1
        self._gate.release(grant, CallOutcome("answered", tokens=TOKENS, shares={grant.collection: TOKENS}))


def run(report: Report, quick: bool) -> None:
    """One process, then four."""
    seconds = 4.0 if quick else 20.0
    sleeping = asyncio.run(_sleep_only(seconds))
    for limiters in (1, 4):
        with Valkey() as valkey:
            cost = asyncio.run(_measure(valkey.url, limiters, seconds))
        name = "one process" if limiters == 1 else f"{limiters} that contend"
        own = max(0.0, cost.own - sleeping)
        report.add(f"{name}: Redis, scripts and mailboxes, µs a call", cost.scripts)
        report.add(f"{name}: Redis, all of its processor time, µs a call", cost.server)
        report.add(f"{name}: processor time of the workers, µs a call", own)
        report.add(f"{name}: exchanges a call", cost.exchanges, "{:.2f}")
        report.add(f"{name}: in all, µs a call", cost.server + own, at_most=ALLOWED)


async def _measure(url: str, limiters: int, seconds: float) -> Cost:
    """Run for a second, then measure."""
    made = [Limiter(url, lease=30.0) for _ in range(limiters)]
    callers = [Caller(limiter) for limiter in made]
    with redis.Redis.from_url(url) as client:
        await asyncio.sleep(1)
        calls, own = sum(caller.calls for caller in callers), time.process_time()
        client.config_resetstat()
        server = _server_seconds(client)
        await asyncio.sleep(seconds)
        calls = sum(caller.calls for caller in callers) - calls
        own, server = time.process_time() - own, _server_seconds(client) - server
        stats = cast("dict[str, dict[str, Any]]", client.info("commandstats"))
    for limiter in made:
        async with asyncio.timeout(CLOSING):
            await limiter.close()
    scripts = sum(stats.get(f"cmdstat_{name}", {}).get("usec", 0) for name in ("evalsha", "eval", "blpop"))
    exchanges = stats["cmdstat_evalsha"]["calls"]
    return Cost(scripts / calls, server / calls * 1e6, own / calls * 1e6, exchanges / calls)


async def _sleep_only(seconds: float) -> float:
    """Microseconds a call without a limiter."""
    calls = 0

    async def call() -> None:
        nonlocal calls
        await asyncio.sleep(_latency())
        calls += 1

    async def slot() -> None:
        while True:
            await asyncio.create_task(call())

    own = time.process_time()
    slots = [asyncio.create_task(slot()) for _ in range(LIMIT)]
    await asyncio.sleep(seconds)
    own = time.process_time() - own
    for task in slots:
        task.cancel()
    await asyncio.gather(*slots, return_exceptions=True)
    return own / calls * 1e6


def _latency() -> float:
    """Of many lengths: calls that end together would share an exchange."""
    return random.uniform(0.5, 1.5) * LATENCY


def _server_seconds(client: redis.Redis) -> float:
    used = cast("dict[str, float]", client.info("cpu"))
    return used["used_cpu_user"] + used["used_cpu_sys"]
