"""A process of the fleet in a test's event loop: a limiter, a model's gate, the calls that it was granted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from embedq.contract import Lane
from embedq_worker.limiter import CallOutcome, Flow, Grant, Limiter, Limits, Want
from embedq_worker.limiter.exchange import Verdict


class Caller:
    """Wants are counted down by grants, as a dispatcher does; ``lease`` and ``minute`` in seconds."""

    def __init__(
        self,
        broker_url: str,
        limits: Limits,
        *,
        model: str = "m",
        lease: float = 30.0,
        minute: float = 60.0,
        key_prefix: str = "",
    ) -> None:
        self.limiter = Limiter(broker_url, lease=lease, minute=minute, key_prefix=key_prefix)
        self.pauses = 0
        self.grants: asyncio.Queue[Grant] = asyncio.Queue()
        self._wants: dict[Flow, Want] = {}
        self.gate = self.limiter.gate(model, limits, on_grant=self._granted, on_pause=self._paused)

    def want(self, calls: int, lane: Lane = "bulk", collection: str = "docs", tokens: int = 0) -> None:
        """So many calls are wanted now, instead of what was said before."""
        flow = Flow(lane, collection)
        self._wants[flow] = Want(calls, tokens)
        self.gate.want(flow, self._wants[flow])

    async def grant(self, seconds: float = 5.0) -> Grant:
        """The next call that may be made. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            return await self.grants.get()

    async def call(self, seconds: float = 5.0) -> Grant:
        """Want one call, and wait until it may be made."""
        self.want(1)
        return await self.grant(seconds)

    async def registered(self) -> None:
        """Wait until the fleet knows what is wanted here."""
        async with asyncio.timeout(5):
            while not self.gate._position._registered:  # noqa: ASYNC110  # nobody else needs to be told
                await asyncio.sleep(0.005)

    async def is_refused(self, seconds: float) -> bool:
        """Whether nothing is granted for so long."""
        with suppress(TimeoutError):
            await self.grant(seconds)
            return False
        return True

    def release(self, grant: Grant, verdict: Verdict = "answered", tokens: int | None = None) -> None:
        """The call has ended."""
        self.gate.release(grant, CallOutcome(verdict, why=verdict, tokens=tokens))

    async def close(self) -> None:
        """Want nothing more, give back what was granted and not taken, and say goodbye."""
        for flow in self._wants:
            self.gate.want(flow, Want(0, 0))
        self._wants.clear()
        while not self.grants.empty():
            self.release(self.grants.get_nowait(), "unused")
        async with asyncio.timeout(5):
            await self.limiter.close()

    def _granted(self, grant: Grant) -> None:
        wanted = self._wants.get(grant.flow, Want(0, 0))
        if wanted.calls < 1:
            self.release(grant, "unused")
            return
        self.want(wanted.calls - 1, *grant.flow, wanted.tokens)
        self.grants.put_nowait(grant)

    def _paused(self) -> None:
        self.pauses += 1


@asynccontextmanager
async def callers(
    broker_url: str, number: int, limits: Limits, *, lease: float = 30.0, minute: float = 60.0
) -> AsyncIterator[list[Caller]]:
    """So many processes, closed at the end."""
    found = [Caller(broker_url, limits, lease=lease, minute=minute) for _ in range(number)]
    try:
        yield found
    finally:
        for caller in found:
            await caller.close()
