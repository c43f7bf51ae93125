"""The backfill: rows that a watched table held before are enqueued, in the lane bulk, while there is room.

Each process looks; a step locks the watch, so that one is at it, and any goes on where another has ended.
"""

from __future__ import annotations

import asyncio
import random

from embedq_worker.engine.steady import steadily
from embedq_worker.errors import DatabaseAway, RightsMissing, StoreError
from embedq_worker.logs import get_logger
from embedq_worker.metrics.outbox import AMISS
from embedq_worker.store.outbox.backfill import count_waiting, fill_step, read_watches
from embedq_worker.store.outbox.watches import AMISS_STATES, WatchState
from embedq_worker.store.postgres.database import Database

logger = get_logger(__name__)

_ROWS = 500
"""Rows of a step: a transaction of some ten milliseconds."""
_STEPS = 10
"""Steps of one collection before it is another's turn."""
_MOST_WAITING = 5_000
"""Unsent rows of a collection's bulk lane beside which nothing is added: a second of a relay's work."""
_LOOK = 2.0
"""Seconds between two looks whether anything is to be filled."""
_FULL = 0.2
"""Seconds until a full lane is looked at again."""


class Backfill:
    """Fills what watched tables held before, and says where a watch does not follow its table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reasons: dict[str, str] = {}
        """By collection, why it is not filled, as was said."""
        self._amiss: dict[str, str] = {}
        """By collection, in which state it was said to be amiss."""

    async def run(self) -> None:
        """Fill for ever."""
        await steadily(self._round_and_sleep, "filling from watched tables")

    async def _round_and_sleep(self) -> None:
        pause = _LOOK
        for watch in await self.look():
            if watch.filled_at is None and watch.state != "source dropped":
                pause = min(pause, await self._fill(watch.collection))
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter

    async def look(self) -> list[WatchState]:
        """The watches, none while Postgres is away; those that are amiss are told of."""
        try:
            watches = await read_watches(self._database)
        except StoreError:
            return []  # the directory says it: it reads the same schema
        AMISS.replace({(each.collection, each.state): 1.0 for each in watches if each.state in AMISS_STATES})
        self._say_amiss(watches)
        return watches

    async def _fill(self, collection: str) -> float:
        """What there is room for, and not so much that others wait; seconds until the next time."""
        try:
            for _ in range(_STEPS):
                if await count_waiting(self._database, collection, _MOST_WAITING) >= _MOST_WAITING:
                    return _FULL
                read = await fill_step(self._database, collection, _ROWS)
                self._reasons.pop(collection, None)
                if read is None:
                    return _LOOK
                if read == 0:
                    logger.info(
                        "backfill_done",
                        "collection {collection} holds its watched table",
                        collection=collection,
                    )
                    return _LOOK
        except StoreError as error:
            self._complain(collection, error)
            return _LOOK
        return 0.0

    def _complain(self, collection: str, error: StoreError) -> None:
        """Once a reason, and not of what everybody waits for, who say so."""
        if isinstance(error, DatabaseAway) and not isinstance(error, RightsMissing):
            return
        if self._reasons.get(collection) != str(error):
            self._reasons[collection] = str(error)
            logger.warning(
                "backfill_put_off",
                "the watched table of collection {collection} is not read further for now: {reason}",
                collection=collection,
                reason=str(error),
            )

    def _say_amiss(self, watches: list[WatchState]) -> None:
        """Once a watch and state, until it is well again."""
        amiss = {watch.collection: watch.state for watch in watches if watch.state in AMISS_STATES}
        for collection, state in amiss.items():
            if self._amiss.get(collection) != state:
                logger.warning(
                    "watch_amiss",
                    "collection {collection} does not follow its watched table ({state}); see "
                    "`embedq watch list` and docs/watch.md",
                    collection=collection,
                    state=state,
                )
        self._amiss = dict(amiss)
