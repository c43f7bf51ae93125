"""The sweep: removes rows of the outbox that are settled without a write of their own.

What is superseded when it is looked up, or a copy of what is stored, leaves no transaction that its row
could go with. The ledger says so some seconds later.
"""

from __future__ import annotations

import asyncio
import random
from datetime import datetime

from embedq_worker.engine.steady import steadily
from embedq_worker.errors import StoreError
from embedq_worker.logs import get_logger
from embedq_worker.store.outbox.unsettled import LONG_AGO, OutboxLane, look_at, remove_orphans, sweep
from embedq_worker.store.postgres.database import Database

logger = get_logger(__name__)

PAGE = 1_000
"""Rows of one look at a lane."""
_EVERY = 3.0
"""Seconds between two rounds of a process."""
_AFTER = 5.0
"""Seconds since a row was sent before it is looked at: until then it is usually under way."""


class Sweep:
    """Goes through what each lane has sent, page by page, and then from its beginning."""

    def __init__(self, database: Database, *, after: float = _AFTER) -> None:
        self._database = database
        self._after = after
        self._reached: dict[tuple[int, bool], datetime] = {}

    async def run(self) -> None:
        """Sweep for ever."""
        await steadily(self._round_and_sleep, "sweeping the outbox")

    async def _round_and_sleep(self) -> None:
        try:
            is_more = await self.go_round()
        except StoreError:
            is_more = False  # the relay says so
        await asyncio.sleep(0 if is_more else _EVERY * random.uniform(0.75, 1.25))  # noqa: S311 - jitter

    async def go_round(self) -> bool:
        """Look at a page of each lane; whether most of one was to be removed, so that more may be.

        Raises ``StoreError``.
        """
        epoch, lanes = await look_at(self._database)
        there = {_key(lane) for lane in lanes}
        self._reached = {key: since for key, since in self._reached.items() if key in there}
        removed = [await self._look_at(lane, epoch) for lane in lanes]
        return any(count > PAGE // 2 for count in removed)

    async def _look_at(self, lane: OutboxLane, epoch: int) -> int:
        if lane.collection is None:
            return await self._remove_orphans(lane)
        since = self._reached.get(_key(lane), LONG_AGO)
        swept = await sweep(self._database, lane, epoch=epoch, since=since, after=self._after, rows=PAGE)
        is_end = swept.last is None or swept.looked_at < PAGE
        self._reached[_key(lane)] = LONG_AGO if is_end else swept.last or LONG_AGO
        return swept.removed

    async def _remove_orphans(self, lane: OutboxLane) -> int:
        removed = await remove_orphans(self._database, lane.collection_id, PAGE)
        if removed:
            sentence = "{ids} items were removed from the outbox: their collection was dropped"
            logger.warning("outbox_orphans_removed", sentence, ids=removed)
        return removed


def _key(lane: OutboxLane) -> tuple[int, bool]:
    return lane.collection_id, lane.is_bulk
