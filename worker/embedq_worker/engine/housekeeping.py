"""Housekeeping: texts of dead letters, tombstones and cached vectors are removed when they are old enough.

Every process tries; of the first two one of the fleet at a time does it (``store.retention``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from embedq_worker.engine.steady import steadily
from embedq_worker.errors import CollectionGone, StoreError
from embedq_worker.logs import get_logger
from embedq_worker.settings import WorkerSettings
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.retention import BATCH, remove_texts, remove_tombstones
from embedq_worker.store.usage import forget_reports
from embedq_worker.store.vector_cache import forget_unused

logger = get_logger(__name__)

_EVERY = 3600.0
"""Seconds between two rounds of a process, at most; a fleet goes round more often."""
_AGAIN = 60.0
"""Seconds after a round that failed."""
_BREATHER = 0.2
"""Seconds between two batches of a round: writers go first."""


class Housekeeping:
    """Removes what is past its retention, a round at the start and one an hour."""

    def __init__(self, database: Database, worker: WorkerSettings) -> None:
        self._database = database
        self._worker = worker

    async def run(self) -> None:
        """Go round for ever."""
        await steadily(self._round_and_sleep, "removing what is past its retention")

    async def _round_and_sleep(self) -> None:
        pause = _AGAIN
        try:
            await self.go_round()
            pause = _EVERY * random.uniform(0.5, 1)  # noqa: S311 - jitter
        except CollectionGone:
            pass  # there is no schema embedq yet, which the directory says
        except StoreError as error:
            logger.warning(
                "retention_put_off", "what is past its retention stays for now: {reason}", reason=str(error)
            )
        await asyncio.sleep(pause)

    async def go_round(self) -> None:
        """Remove all that is old enough. Raises ``StoreError``."""
        days = self._worker.dead_letter_text_days
        texts = await _all_of(lambda: remove_texts(self._database, days))
        if texts:
            sentence = "the texts of {letters} dead letters older than {days:g} days were removed"
            logger.info("dead_letter_texts_removed", sentence, letters=texts, days=days)
        days = self._worker.tombstone_days
        tombstones = await _all_of(lambda: remove_tombstones(self._database, days))
        if tombstones:
            sentence = "{ids} ids deleted more than {days:g} days ago were forgotten"
            logger.info("tombstones_removed", sentence, ids=tombstones, days=days)
        await forget_reports(self._database)
        if self._worker.vector_cache_days:
            await forget_unused(self._database, self._worker.vector_cache_days)


async def _all_of(remove: Callable[[], Awaitable[int]]) -> int:
    """Batch after batch, until one is not full."""
    total = 0
    while True:
        removed = await remove()
        total += removed
        if removed < BATCH:
            return total
        await asyncio.sleep(_BREATHER)
