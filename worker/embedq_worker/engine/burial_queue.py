"""The burial queue.

Dead letters on their way to Postgres. What they stand for is settled after the commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import islice

from embedq_worker.engine.steady import steadily
from embedq_worker.errors import DatabaseAway
from embedq_worker.store.burial import DeadLetter, bury
from embedq_worker.store.database import Database

logger = logging.getLogger(__name__)

_AT_ONCE = 500


class BurialQueue:
    """Writes dead letters, many in a transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[DeadLetter, Callable[[], None]]] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, letter: DeadLetter, buried: Callable[[], None]) -> None:
        """Bury a letter and call ``buried`` after the commit."""
        self._waiting.append((letter, buried))
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Bury for ever."""
        await steadily(self._bury_next, "burying dead letters")

    async def _bury_next(self) -> None:
        await self._arrived.wait()
        self._arrived.clear()
        while self._waiting:
            batch = list(islice(self._waiting, _AT_ONCE))
            await self._bury_all(batch)
            for _, buried in batch:
                self._waiting.popleft()
                buried()
        self._idle.set()

    async def finish(self) -> None:
        """Wait until everything that was added is buried."""
        await self._idle.wait()

    async def _bury_all(self, batch: list[tuple[DeadLetter, Callable[[], None]]]) -> None:
        delay = 0.1
        while True:
            try:
                await bury(self._database, [letter for letter, _ in batch])
            except DatabaseAway as error:
                logger.warning("dead letters wait for the database: %s", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 5.0)
            else:
                return
