"""The cache of vectors of one kind, between the ledger and the dispatcher.

A text is looked up before it is asked for. One that has a vector costs no call; one that nobody has claimed
is claimed and goes on to the dispatcher; one that another process is getting is looked up again until it is
there, or free. Queries do not come this way: a look-up would cost each of them a round trip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import islice
from time import monotonic

from prometheus_client import Counter

from embedq_worker.engine.cache.claimant import Claimant, Term
from embedq_worker.engine.cache.queue import CacheQueue
from embedq_worker.engine.delays import doubled
from embedq_worker.engine.insisting import insist
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.texts import Asker, Shape, Waiter, WaitingText
from embedq_worker.engine.work import Vector
from embedq_worker.errors import ABANDONED, ApiError, NotCalled, StoreError
from embedq_worker.limiter import Flow
from embedq_worker.metrics.cache import RESULTS, TEXTS
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.store.vector_cache import Found, Kind, Made, claim
from embedq_worker.tracing import Spans

_LOOK_UP_TEXTS = 500
"""Texts of one look-up; as many vectors of 3,072 dimensions are 6 MB."""
_PLACE_TEXTS = 100
"""Texts that are placed in one go."""
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 1.0


class VectorCache:
    """Gets texts their vectors from the cache, or from ``dispatcher`` for the cache."""

    def __init__(
        self, kind: Kind, dispatcher: Asker, *, database: Database, claimant: Claimant, queue: CacheQueue
    ) -> None:
        self._kind = kind
        self._dispatcher = dispatcher
        self._database = database
        self._claimant = claimant
        self._queue = queue
        self._hits, self._misses, self._joined = (TEXTS.labels(kind.model, result) for result in RESULTS)
        self._wanted: dict[bytes, _Wanted] = {}
        """All that wait for a vector, and those whose claims are not ended in the database yet, by content
        hash."""
        self._due: deque[_Wanted] = deque()
        """Those of them that are to be looked up."""
        self._arrived = asyncio.Event()

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """Get ``text`` its vector; equal texts wait together."""
        wanted = self._wanted.get(key)
        if wanted is None:
            waiting = WaitingText(key, text, 0, monotonic(), flow, waiter)
            wanted = self._wanted[key] = _Wanted(self, waiting, shape)
            self._look_up(wanted)
        elif wanted.vector is not None:
            self._joined.inc()
            waiter.embedded(wanted.vector, 0, 0)
            return
        elif flow.lane == "live" and wanted.text.flow.lane == "bulk":
            wanted.text.flow, wanted.text.payer = flow, waiter
            if wanted.is_asked:  # a second time, which brings it forward
                self._dispatcher.ask(key, text, shape, flow, wanted)
        if wanted.text.waiters:
            self._joined.inc()
        wanted.text.waiters.append(waiter)

    async def run(self) -> None:
        """Look up for ever."""
        await steadily(self._look, "looking up cached vectors")

    def let_go(self) -> None:
        """Tell those who wait no more; a text that nobody is left for is not asked for."""
        for wanted in list(self._wanted.values()):
            wanted.text.let_go(ABANDONED)

    def embedded(self, wanted: _Wanted, vector: Vector, tokens: int) -> None:
        """The service gave the vector of a text."""
        wanted.text.embedded(vector, tokens)
        wanted.text.waiters.clear()
        if wanted.term is None:
            self._ended(wanted)
        else:
            wanted.vector = vector
            made = Made(wanted.text.key, vector, tokens)
            self._queue.keep(self._kind, wanted.term, made, partial(self._ended, wanted))

    def refused(self, wanted: _Wanted, error: ApiError) -> None:
        """The service refuses a text; or it was not asked, for want of a claim or of somebody who waits."""
        if isinstance(error, NotCalled) and not wanted.text.let_go(error):
            self._look_up(wanted)
            return
        wanted.text.refused(error)
        wanted.text.waiters.clear()
        self._give_up(wanted)

    def _look_up(self, wanted: _Wanted) -> None:
        self._due.append(wanted)
        self._arrived.set()

    async def _look(self) -> None:
        while not self._due:
            self._arrived.clear()
            await self._arrived.wait()
        looked_up = list(islice(self._due, _LOOK_UP_TEXTS))
        found, term = await self._found([wanted.text.key for wanted in looked_up])
        for number, wanted in enumerate(looked_up):
            self._due.popleft()
            self._place(wanted, found, term)
            if number % _PLACE_TEXTS == 0:
                await asyncio.sleep(0)  # calls and answers go on

    async def _found(self, keys: Sequence[bytes]) -> tuple[Found, Term | None]:
        """What there is; without a term all are to be asked for as if there were no cache."""
        try:
            what = f"looking for texts of model {self._kind.model} in the cache of vectors"
            return await insist(partial(self._claim, keys), what, self._database.outage)
        except StoreError as error:
            self._claimant.renounce(error)
            return Found({}, frozenset(keys)), None

    async def _claim(self, keys: Sequence[bytes]) -> tuple[Found, Term]:
        term = await self._claimant.term()
        return await claim(self._database, self._kind, keys, term.name), term

    def _place(self, wanted: _Wanted, found: Found, term: Term | None) -> None:
        """Hand on a text that was looked up."""
        text = wanted.text
        vector = found.vectors.get(text.key)
        wanted.term = term if text.key in found.claimed else None
        if vector is not None:
            self._count(wanted, self._joined if wanted.has_waited else self._hits)
            del self._wanted[text.key]
            text.embedded(vector, 0)
        elif not text.waiters:
            self._give_up(wanted)
        elif text.key in found.claimed:
            wanted.is_asked = True
            self._count(wanted, self._misses)
            self._dispatcher.ask(text.key, text.text, wanted.shape, text.flow, wanted)
        else:  # another process is getting it
            asyncio.get_running_loop().call_later(wanted.next_delay(), self._look_up, wanted)

    def _count(self, wanted: _Wanted, result: Counter) -> None:
        """Once, however often it is looked up and asked for."""
        if not wanted.is_counted:
            wanted.is_counted = True
            result.inc()

    def _give_up(self, wanted: _Wanted) -> None:
        if wanted.term is None:
            self._ended(wanted)
        else:
            ended = partial(self._ended, wanted)
            self._queue.give_up(self._kind, wanted.term, wanted.text.key, ended)

    def _ended(self, wanted: _Wanted) -> None:
        """There is no claim of it any more. Who came meanwhile did not find the claim for its own."""
        if wanted.text.waiters:
            wanted.is_counted = False
            self._look_up(wanted)
        else:
            del self._wanted[wanted.text.key]


class _Wanted:
    """A text that wants a vector; for the dispatcher, the one who waits for it."""

    __slots__ = ("_cache", "_looks", "is_asked", "is_counted", "shape", "term", "text", "vector")

    def __init__(self, cache: VectorCache, text: WaitingText, shape: Shape) -> None:
        self._cache = cache
        self._looks = 0
        self.text = text
        self.shape = shape
        self.term: Term | None = None
        """In whose name it is claimed."""
        self.vector: Vector | None = None
        """Once it has come, until it is in the cache."""
        self.is_counted = False
        """Whether it is known where its vector comes from."""
        self.is_asked = False
        """Whether the dispatcher has it, perhaps twice: the first news are taken."""

    @property
    def is_gone(self) -> bool:
        """Whether it must not be asked for any more: nobody waits, or others may be asking."""
        lost = self.term is not None and self.term.is_over
        return lost or all(waiter.is_gone for waiter in self.text.waiters)

    @property
    def has_waited(self) -> bool:
        """Whether another process was getting it when it was looked up."""
        return self._looks > 0

    @property
    def source(self) -> str | None:
        return self.text.payer.source

    @property
    def spans(self) -> Spans:
        return tuple(self.text.spans)

    @property
    def purpose(self) -> UsagePurpose:
        return self.text.payer.purpose

    def next_delay(self) -> float:
        """Seconds until it is looked up again."""
        self._looks += 1
        return doubled(_FIRST_DELAY, _LONGEST_DELAY, self._looks)

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        if self._has_news(attempts):
            self._cache.embedded(self, vector, tokens)

    def refused(self, error: ApiError, attempts: int) -> None:
        if self._has_news(attempts):
            self._cache.refused(self, error)

    def _has_news(self, attempts: int) -> bool:
        is_first, self.is_asked = self.is_asked, False
        self.text.attempts = attempts
        return is_first
