"""A watch: something that is looked at when somebody wants to know, and not more often than is good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic

EVERY = 5.0
"""Seconds from the beginning of a look to that of the next one, at least."""
_PATIENCE = 1.0
"""Seconds that somebody waits for a look to end."""


class Watch:
    """Looks by ``look``, which raises nothing but defects of ours. Several who ask share a look."""

    def __init__(self, look: Callable[[], Awaitable[None]], clock: Callable[[], float] = monotonic) -> None:
        self._look = look
        self._clock = clock
        self._began = -inf
        self._looking: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The look that is under way, if there is one."""
        return [self._looking] if self._looking is not None and not self._looking.done() else []

    async def ask(self) -> None:
        """Have it looked at, unless that was just done, and wait a second at most for what is under way."""
        if not self.tasks and self._clock() - self._began >= EVERY:
            self._began = self._clock()
            self._looking = asyncio.create_task(self._once())
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=_PATIENCE)

    async def _once(self) -> None:
        await self._look()
