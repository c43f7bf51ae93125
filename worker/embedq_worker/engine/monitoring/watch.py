"""A watch: something that is looked at while somebody wants to know, and not more often than is good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic

EVERY = 5.0
"""Seconds from the beginning of a look to that of the next one."""
_PATIENCE = 1.0
"""Seconds that somebody waits for a look to end."""
_INTEREST = 60.0
"""Seconds after somebody asked in which looks go on: the usual time until a monitor asks again."""


class Watch:
    """Looks by ``look``, which raises nothing but defects of ours. Several who ask share a look.

    It goes on looking for a while after it was asked. If a look came only when somebody asks, one that takes
    longer than they wait would never be seen: until they ask again, what it saw is too old. ``every``:
    seconds from the beginning of a look to that of the next one; ``soonest``: likewise, when it was hurried.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        *,
        every: float = EVERY,
        soonest: float = EVERY,
        patience: float = _PATIENCE,
        interest: float = _INTEREST,
    ) -> None:
        self._look = look
        self._every = every
        self._soonest = min(soonest, every)
        self._patience = patience
        self._interest = interest
        self._asked_at = -inf
        self._looked = asyncio.Event()
        """No look is under way."""
        self._hurried = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What looks, while somebody wants to know."""
        return [self._looking] if self._looking is not None and not self._looking.done() else []

    def hurry(self) -> None:
        """What was seen is not true any more: if somebody wants to know, look as soon as may be."""
        self._hurried.set()

    async def ask(self) -> None:
        """Have it looked at, unless that was just done, and wait a second at most for what is under way."""
        self._asked_at = monotonic()
        if not self.tasks:
            self._looked.clear()
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            async with asyncio.timeout(self._patience):
                await self._looked.wait()
        except TimeoutError:
            pass

    async def _keep_looking(self) -> None:
        """Until nobody has asked for a while."""
        while monotonic() - self._asked_at < self._interest:
            began = monotonic()
            self._looked.clear()
            self._hurried.clear()
            try:
                await self._look()
            finally:
                self._looked.set()
            await self._rest(began)

    async def _rest(self, began: float) -> None:
        await asyncio.sleep(max(0.0, began + self._soonest - monotonic()))
        try:
            async with asyncio.timeout(max(0.0, began + self._every - monotonic())):
                await self._hurried.wait()
        except TimeoutError:
            pass
