"""The write queue of one collection.

Rows that wait while a transaction is under way go into the next one together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto
from itertools import chain

from embedq_worker.engine.insisting import insist
from embedq_worker.engine.rivals import Rivals, rivals, row_of, spans_of, suspected
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.work import Outcome, RunningItem
from embedq_worker.errors import CollectionGone, CollectionMoved, RowRefused, RowsLocked
from embedq_worker.logs import failure, get_logger
from embedq_worker.metrics.writes import ROWS, WRITE_TIME
from embedq_worker.store.postgres.outage import Outage
from embedq_worker.store.rows import Row
from embedq_worker.store.writer import Writer
from embedq_worker.tracing import TRACES

logger = get_logger(__name__)

MAX_ROWS = 500
"""Rows of one transaction; the last item may have more parts than are left of them."""
WRITERS = 2
"""Transactions at a time: one lands its rows while the other commits. Both lock in id order."""
_LOCKED_AGAIN = 1.0
"""Seconds after which a row is tried again that somebody's transaction has locked."""
_Work = Callable[[Sequence[Row]], Awaitable[set[str]]]
_Done = Callable[[Rivals, set[str]], None]


class Change(Enum):
    """What the writer does with an item."""

    PUT = auto()
    TOUCH = auto()
    """Only the version moves: the text is stored already."""
    DELETE = auto()


class WriteQueue:
    """Writes items of the collection of that ``name`` and settles them after the commit.

    ``refused(item, code)`` is called for what Postgres refuses and for a row that makes an exception of our
    own (``unexpected``), ``changed(item)`` for an item whose stored text is no longer the one it was compared
    with, ``stranded(item, change, gone)`` for one whose vectors do not fit the collection's columns as they
    are now, or that has no table any more.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        name: str,
        outage: Outage,
        refused: Callable[[RunningItem, str], None],
        changed: Callable[[RunningItem], None],
        stranded: Callable[[RunningItem, Change, CollectionGone | None], None],
    ) -> None:
        self._writer = writer
        self._stranded = stranded
        self._outage = outage
        self._name = name
        self._what = f"collection {name}: writing rows, whose vectors are kept,"
        self._what_locked = f"collection {name}: writing some rows"
        self._refused = refused
        self._changed = changed
        self._waiting: deque[tuple[RunningItem, Change]] = deque()
        self._open: set[RunningItem] = set()
        """Taken by a writer, and not handed on yet."""
        self._locked: set[RunningItem] = set()
        """Other transactions hold their rows; they are tried again until they can be handed on."""
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, item: RunningItem, change: Change) -> None:
        """Have an item written."""
        self._waiting.append((item, change))
        self._idle.clear()
        self._arrived.set()

    def follow(self, writer: Writer) -> None:
        """The collection's columns hold other models' vectors from now on."""
        self._writer = writer

    @property
    def is_busy(self) -> bool:
        """Whether anything waits or is being written."""
        return bool(self._waiting or self._open or self._locked)

    @property
    def lacks_rights(self) -> bool:
        """Whether rows wait for rights that are missing."""
        return self._outage.lacks_rights(self._what)

    async def run(self) -> None:
        """Write for ever."""
        await asyncio.gather(*(steadily(self._write_next, "writing rows") for _ in range(WRITERS)))

    async def finish(self) -> None:
        """Wait until everything that was added is written."""
        await self._idle.wait()

    async def _write_next(self) -> None:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        batch = self._next_batch()
        self._open.update(item for item, _ in batch)
        try:
            await self._write_all(batch)
        finally:
            self._put_back(batch)
            if not self._locked:
                self._outage.over(self._what_locked)
            if not self.is_busy:
                self._idle.set()

    def _next_batch(self) -> list[tuple[RunningItem, Change]]:
        batch: list[tuple[RunningItem, Change]] = []
        rows = 0
        while self._waiting and rows < MAX_ROWS:
            batch.append(self._waiting.popleft())
            rows += len(batch[-1][0].parts) or 1
        return batch

    def _put_back(self, batch: Sequence[tuple[RunningItem, Change]]) -> None:
        """After an exception, those that were not handed on: vectors in hand are paid for."""
        left = [(item, change) for item, change in batch if item in self._open]
        self._open.difference_update(item for item, _ in left)
        self._waiting.extendleft(reversed(left))

    async def _write_all(self, batch: Sequence[tuple[RunningItem, Change]]) -> None:
        writer = self._writer
        writes: list[RunningItem] = []
        for item, change in batch:
            if change is Change.PUT and item.layout != writer.layout:
                self._strand(item)
            elif change is not Change.TOUCH:
                writes.append(item)
        touches = [item for item, change in batch if change is Change.TOUCH]
        if writes:
            await self._store(writer.write, self._written, rivals(writes))
        if touches:
            await self._store(writer.touch, self._touched, rivals(touches))

    async def _store(self, work: _Work, done: _Done, groups: Sequence[Rivals]) -> None:
        """One transaction with the newest of each id; what is refused and not named is found by halves."""
        try:
            ids = await self._insist(work, groups)
        except (CollectionMoved, CollectionGone) as error:
            gone = error if isinstance(error, CollectionGone) else None
            for item in chain.from_iterable(groups):
                self._strand(item, gone, is_touch=done == self._touched)
        except RowsLocked as error:
            self._set_aside([group for group in groups if group[0].id in error.ids], done, error)
            if free := [group for group in groups if group[0].id not in error.ids]:
                await self._store(work, done, free)
        except Exception as error:  # of Postgres or our own: a row may be the cause
            refused, halves = suspected(groups, error)
            for group in refused:
                self._refuse(group[0], _code(error))
            for half in ([group[1:] for group in refused if group[1:]], *halves):
                if half:
                    await self._store(work, done, half)
        else:
            if done == self._written:
                self._count(groups, ids)
            for group in groups:
                done(group, ids)

    async def _insist(self, work: _Work, groups: Sequence[Rivals]) -> set[str]:
        async def once() -> set[str] | RowsLocked:
            try:
                with WRITE_TIME.time(), TRACES.write(self._name, len(groups), spans_of(groups)):
                    return await work([row_of(group) for group in groups])
            except RowsLocked as error:  # others of the batch need not wait
                return error

        written = await insist(once, self._what, self._outage, alone=True)
        if isinstance(written, RowsLocked):
            raise written
        return written

    def _set_aside(self, groups: Sequence[Rivals], done: _Done, error: RowsLocked) -> None:
        """Try these again later, and write what is beside them."""
        self._outage.failed(self._what_locked, error)
        is_touch = done == self._touched
        again = [(item, _change(item, is_touch=is_touch)) for item in chain.from_iterable(groups)]
        for item, _ in again:
            self._open.discard(item)
            self._locked.add(item)
        asyncio.get_running_loop().call_later(_LOCKED_AGAIN, self._try_again, again)

    def _try_again(self, again: Sequence[tuple[RunningItem, Change]]) -> None:
        self._waiting.extend(again)
        self._arrived.set()

    def _count(self, groups: Sequence[Rivals], superseded: set[str]) -> None:
        ROWS.labels(self._name).inc(
            sum(len(group[0].parts) for group in groups if group[0].id not in superseded)
        )

    def _written(self, group: Rivals, superseded: set[str]) -> None:
        stored, *older = group
        done = Outcome.STORED if stored.text is not None else Outcome.DELETED
        self._settle(stored, Outcome.SUPERSEDED if stored.id in superseded else done)
        for item in older:
            self._settle(item, Outcome.SUPERSEDED)

    def _touched(self, group: Rivals, touched: set[str]) -> None:
        if group[0].id not in touched:
            for item in group:
                self._leave(item)
                self._changed(item)
            return
        self._settle(group[0], Outcome.UNCHANGED)
        for item in group[1:]:
            self._settle(item, Outcome.SUPERSEDED)

    def _strand(
        self, item: RunningItem, gone: CollectionGone | None = None, *, is_touch: bool = False
    ) -> None:
        self._leave(item)
        self._stranded(item, _change(item, is_touch=is_touch), gone)

    def _leave(self, item: RunningItem) -> None:
        """It is handed on."""
        self._open.discard(item)
        self._locked.discard(item)

    def _settle(self, item: RunningItem, outcome: Outcome) -> None:
        self._leave(item)
        item.settle(outcome)

    def _refuse(self, item: RunningItem, code: str) -> None:
        self._leave(item)
        self._refused(item, code)


def _change(item: RunningItem, *, is_touch: bool) -> Change:
    if is_touch:
        return Change.TOUCH
    return Change.PUT if item.text is not None else Change.DELETE


def _code(error: Exception) -> str:
    """The reason as a dead letter gives it. What is not Postgres' is logged: it is a defect of embedq."""
    if isinstance(error, RowRefused):
        return error.sqlstate
    # The type and the place alone: what the exception says may quote the text.
    logger.error("row_not_written", "a row could not be written: {error}", **failure(error))
    return "unexpected"
