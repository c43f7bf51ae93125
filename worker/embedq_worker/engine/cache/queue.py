"""The cache queue: vectors on their way into the cache, and claims that are given up.

Nothing waits for it: rows are written, and items settled, whatever becomes of the cache.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from embedq_worker.engine.cache.claimant import Claimant, Term
from embedq_worker.engine.insisting import insist
from embedq_worker.engine.steady import steadily
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.vector_cache import Kind, Made, give_up, keep

_AT_ONCE = 256


class _End(NamedTuple):
    """The end of a claim: with a vector, or without."""

    kind: Kind
    term: Term
    key: bytes
    made: Made | None
    ended: Callable[[], None]


class CacheQueue:
    """Ends claims, many in a statement, and calls ``ended`` for each when that is done.

    What the database refuses is lost to the cache alone; then this process renounces its claims, so that
    nobody waits for them.
    """

    def __init__(self, database: Database, claimant: Claimant) -> None:
        self._database = database
        self._claimant = claimant
        self._waiting: deque[_End] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def keep(self, kind: Kind, term: Term, made: Made, ended: Callable[[], None]) -> None:
        """A vector has come: others may use it."""
        self._add(_End(kind, term, made.key, made, ended))

    def give_up(self, kind: Kind, term: Term, key: bytes, ended: Callable[[], None]) -> None:
        """There will be no vector: others may try."""
        self._add(_End(kind, term, key, None, ended))

    async def run(self) -> None:
        """End claims for ever."""
        await steadily(self._end_next, "writing to the cache of vectors")

    async def finish(self) -> None:
        """Wait until everything that was added is written."""
        await self._idle.wait()

    def _add(self, end: _End) -> None:
        self._waiting.append(end)
        self._idle.clear()
        self._arrived.set()

    async def _end_next(self) -> None:
        while not self._waiting:
            self._idle.set()
            self._arrived.clear()
            await self._arrived.wait()
        ends = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
        try:
            await self._end_all(ends)
        except Exception as error:  # of Postgres or our own: the cache is not worth more than this attempt
            self._claimant.renounce(error)
        for end in ends:
            end.ended()

    async def _end_all(self, ends: list[_End]) -> None:
        made: defaultdict[Kind, list[Made]] = defaultdict(list)
        given_up: defaultdict[tuple[Kind, str], list[bytes]] = defaultdict(list)
        for end in ends:
            if end.made is not None:
                made[end.kind].append(end.made)
            elif not end.term.is_over:
                given_up[end.kind, end.term.name].append(end.key)
        for kind, vectors in made.items():
            await self._insist(partial(keep, self._database, kind, vectors))
        for (kind, name), keys in given_up.items():
            await self._insist(partial(give_up, self._database, kind, keys, name))

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        await insist(work, "writing to the cache of vectors", self._database.outage)
