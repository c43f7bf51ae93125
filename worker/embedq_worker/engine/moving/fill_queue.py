"""The fill queue: vectors of the model that a collection moves to, on their way into rows that lack them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from embedq_worker.engine.insisting import insist
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.work import Outcome
from embedq_worker.errors import CollectionGone, CollectionMoved
from embedq_worker.logs import failure, get_logger
from embedq_worker.metrics.writes import WRITE_TIME
from embedq_worker.store.moving.filler import Filler
from embedq_worker.store.postgres.outage import Outage
from embedq_worker.store.rows import Filled

logger = get_logger(__name__)

_AT_ONCE = 256
_WHAT = "filling rows, whose vectors are kept,"


@dataclass(slots=True, eq=False)
class _Waiting:
    """A vector, and who is told what became of it."""

    generation: int
    filled: Filled
    done: Callable[[Outcome], None]
    is_told: bool = False

    def tell(self, outcome: Outcome) -> None:
        """Only once: what was told is not put back."""
        self.is_told = True
        self.done(outcome)


class FillQueue:
    """Fills the rows of one collection, many in a transaction.

    A vector of a generation that the collection's shadow does not have is dropped. ``look`` has the registry
    read again where it is newer than what is known.
    """

    def __init__(self, outage: Outage, look: Callable[[], Awaitable[bool]]) -> None:
        self._outage = outage
        self._look = look
        self._filler: Filler | None = None
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def follow(self, filler: Filler | None) -> None:
        """What fills from now on; None where there is nothing to be filled."""
        self._filler = filler

    def add(self, generation: int, filled: Filled, done: Callable[[Outcome], None]) -> None:
        """Store a vector, and call ``done`` after the commit."""
        self._waiting.append(_Waiting(generation, filled, done))
        self._idle.clear()
        self._arrived.set()

    @property
    def is_busy(self) -> bool:
        """Whether anything waits or is being stored."""
        return not self._idle.is_set()

    async def run(self) -> None:
        """Fill for ever."""
        await steadily(self._fill_next, "filling rows")

    async def finish(self) -> None:
        """Wait until everything that was added is stored."""
        await self._idle.wait()

    async def _fill_next(self) -> None:
        while not self._waiting:
            self._idle.set()
            self._arrived.clear()
            await self._arrived.wait()
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
        try:
            await self._fill_all(batch)
        except CollectionMoved:
            self._put_back(batch)
            await self._look()
        except BaseException:
            self._put_back(batch)
            raise

    def _put_back(self, batch: Sequence[_Waiting]) -> None:
        self._waiting.extendleft(each for each in reversed(batch) if not each.is_told)

    async def _fill_all(self, batch: Sequence[_Waiting]) -> None:
        filler = self._filler
        generation = filler.generation if filler else None
        wanted = [each for each in batch if each.generation == generation]
        if filler is not None and wanted:
            await self._fill(filler, wanted)
        for each in batch:
            if each.generation != generation:
                each.tell(Outcome.SUPERSEDED)

    async def _fill(self, filler: Filler, wanted: Sequence[_Waiting]) -> None:
        """One transaction; what is refused is found by halves."""
        try:
            rows = [each.filled for each in wanted]
            await insist(partial(_store, filler, rows), _WHAT, self._outage, alone=True)
            outcome = Outcome.STORED
        except CollectionMoved:
            raise
        except CollectionGone:
            outcome = Outcome.SUPERSEDED
        except Exception as error:  # of Postgres or our own: all that is known is that a row may be the cause
            if len(wanted) > 1:
                half = len(wanted) // 2
                await self._fill(filler, wanted[:half])
                await self._fill(filler, wanted[half:])
                return
            sentence = "a row could not be filled, it is left without: {error}"
            logger.error("row_not_filled", sentence, **failure(error))
            outcome = Outcome.DEAD
        for each in wanted:
            each.tell(outcome)


async def _store(filler: Filler, rows: Sequence[Filled]) -> None:
    with WRITE_TIME.time():
        await filler.fill(rows)
