"""The write queue of one collection.

Rows that wait while a transaction is under way go into the next one together.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto

import msgspec

from embedq_worker.engine.steady import steadily
from embedq_worker.engine.work import Outcome, RunningItem
from embedq_worker.errors import CollectionGone, DatabaseAway, RowRefused
from embedq_worker.store.rows import Row
from embedq_worker.store.writer import Writer

logger = logging.getLogger(__name__)

MAX_ROWS = 500
"""Rows of one transaction."""
WRITERS = 2
"""Transactions at a time: one lands its rows while the other commits. Both lock in id order."""
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 5.0


class Change(Enum):
    """What the writer does with an item."""

    PUT = auto()
    TOUCH = auto()
    """Only the version moves: the text is stored already."""
    DELETE = auto()


class WriteQueue:
    """Writes items and settles them after the commit.

    ``refused(item, code)`` is called for what Postgres refuses, ``changed(item)`` for an item whose stored
    text is no longer the one it was compared with.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        refused: Callable[[RunningItem, str], None],
        changed: Callable[[RunningItem], None],
    ) -> None:
        self._writer = writer
        self._refused = refused
        self._changed = changed
        self._waiting: deque[tuple[RunningItem, Change]] = deque()
        self._writing = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, item: RunningItem, change: Change) -> None:
        """Have an item written."""
        self._waiting.append((item, change))
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Write for ever."""
        await asyncio.gather(*(steadily(self._write_next, "writing rows") for _ in range(WRITERS)))

    async def _write_next(self) -> None:
        await self._arrived.wait()
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_ROWS))]
        if not self._waiting:
            self._arrived.clear()
        self._writing += 1
        try:
            await self._write_all(batch)
        except Exception:
            self._waiting.extendleft(reversed(batch))  # vectors in hand are paid for
            self._arrived.set()
            raise
        finally:
            self._writing -= 1
        if not self._waiting and not self._writing:
            self._idle.set()

    async def finish(self) -> None:
        """Wait until everything that was added is written."""
        await self._idle.wait()

    async def _write_all(self, batch: Sequence[tuple[RunningItem, Change]]) -> None:
        touches = [item for item, change in batch if change is Change.TOUCH]
        writes = [item for item, change in batch if change is not Change.TOUCH]
        if writes:
            await self._write(*newest(writes))
        if touches:
            await self._touch(*newest(touches))

    async def _write(self, items: Sequence[RunningItem], older: Sequence[RunningItem]) -> None:
        """One transaction; what is refused is found by halves and the rest is stored."""
        try:
            superseded = await _insist(lambda: self._writer.write([_row(item) for item in items]))
        except RowRefused as error:
            if len(items) == 1:
                self._refused(items[0], error.sqlstate)
            else:
                half = len(items) // 2
                await self._write(items[:half], ())
                await self._write(items[half:], ())
        except CollectionGone:
            for item in items:
                self._refused(item, "collection_dropped")
        else:
            for item in items:
                done = Outcome.STORED if item.text is not None else Outcome.DELETED
                item.settle(Outcome.SUPERSEDED if item.id in superseded else done)
        for item in older:
            item.settle(Outcome.SUPERSEDED)

    async def _touch(self, items: Sequence[RunningItem], older: Sequence[RunningItem]) -> None:
        try:
            touched = await _insist(lambda: self._writer.touch([_row(item) for item in items]))
        except RowRefused as error:
            for item in items:
                self._refused(item, error.sqlstate)
        except CollectionGone:
            for item in items:
                self._refused(item, "collection_dropped")
        else:
            for item in items:
                if item.id in touched:
                    item.settle(Outcome.UNCHANGED)
                else:
                    self._changed(item)
        for item in older:
            item.settle(Outcome.SUPERSEDED)


def newest(items: Sequence[RunningItem]) -> tuple[list[RunningItem], list[RunningItem]]:
    """The newest item of each id, and the others; of equals the first is kept."""
    kept: dict[str, RunningItem] = {}
    older: list[RunningItem] = []
    for item in items:
        rival = kept.get(item.id)
        if rival is None or rival.order < item.order:
            kept[item.id] = item
            if rival is not None:
                older.append(rival)
        else:
            older.append(item)
    return list(kept.values()), older


def _row(item: RunningItem) -> Row:
    return Row(
        id=item.id,
        version=item.version,
        content_hash=item.content_hash,
        content=item.text,
        metadata=msgspec.json.encode(item.metadata) if item.metadata else None,
        vector=item.vector,
        tokens=item.tokens,
    )


async def _insist(work: Callable[[], Awaitable[set[str]]]) -> set[str]:
    """Do it until Postgres does it: the vectors in hand are paid for and are kept."""
    delay = _FIRST_DELAY
    while True:
        try:
            return await work()
        except DatabaseAway as error:
            if delay > 1:
                logger.warning("writing waits for the database: %s", error)
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - jitter
            delay = min(delay * 2, _LONGEST_DELAY)
