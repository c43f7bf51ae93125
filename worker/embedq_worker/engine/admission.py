"""Admission: items that arrive are held against the ledger, before anything is paid for them."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Protocol

from embedq_worker.engine.insisting import insist
from embedq_worker.engine.work import Outcome, RunningItem
from embedq_worker.errors import CollectionGone, RightsMissing
from embedq_worker.store.collection import Collection
from embedq_worker.store.ledger import Found, Known, look_up
from embedq_worker.store.postgres.database import Database

_LOOK_UP_ITEMS = 2000
"""Items of one question to the ledger."""
_ADMIT_ITEMS = 100
"""Items that are admitted in one go."""


class Admitting(Protocol):
    """Whose items are admitted, and who hears what is to be done with each."""

    @property
    def collection(self) -> Collection:
        """As the registry says now."""

    @property
    def is_dropped(self) -> bool:
        """Whether nothing is worth asking for any more."""

    @property
    def lacks_rights(self) -> bool:
        """Whether rows cannot be written: what could not be stored is not paid for."""

    def embed(self, item: RunningItem) -> None:
        """Its text is new."""

    def touch(self, item: RunningItem) -> None:
        """Its text is stored already: only the version moves."""

    def refuse_rowless(self, item: RunningItem) -> None:
        """Somebody's own table has no row for its vector."""

    def lose_table(self, item: RunningItem, error: CollectionGone) -> None:
        """Somebody's own table has lost what is written."""


class Admission:
    """Of one collection. Items that nothing is to be done with are settled here."""

    def __init__(self, owner: Admitting, database: Database) -> None:
        self._owner = owner
        self._database = database
        self._arrivals: deque[RunningItem] = deque()
        self._looked_up: deque[RunningItem] = deque()
        """Held against the ledger now."""
        self._arrived = asyncio.Event()

    @property
    def is_busy(self) -> bool:
        """Whether anything waits."""
        return bool(self._arrivals or self._looked_up)

    def add(self, item: RunningItem) -> None:
        """Have an item looked up."""
        self._arrivals.append(item)
        self._arrived.set()

    def withdraw(self) -> None:
        """Let go of the arrivals whose jobs were released."""
        arrivals = list(self._arrivals)
        self._arrivals.clear()
        for item in arrivals:
            if item.job.is_released:
                item.settle(Outcome.WITHDRAWN)
            else:
                self._arrivals.append(item)

    async def admit_next(self) -> None:
        """Look up what has arrived, many at a time, and hand it on."""
        while not self.is_busy:  # some are left where the step before failed
            self._arrived.clear()
            await self._arrived.wait()
        while self._arrivals and len(self._looked_up) < _LOOK_UP_ITEMS:
            self._looked_up.append(self._arrivals.popleft())
        try:
            found = await self._find({item.id for item in self._looked_up})
        except CollectionGone as error:
            self._lose_table(error)
            return
        for number in range(len(self._looked_up)):
            self._admit(self._looked_up.popleft(), found)
            if number % _ADMIT_ITEMS == 0:
                await asyncio.sleep(0)  # other collections' calls and answers go on

    async def _find(self, ids: set[str]) -> Found:
        work, name = partial(self._look_up, list(ids)), self._owner.collection.name
        return await insist(work, f"collection {name}", self._database.outage, alone=True)

    async def _look_up(self, ids: list[str]) -> Found:
        if self._owner.is_dropped:  # whatever it waited for
            return Found({})
        if self._owner.lacks_rights:
            raise RightsMissing("rows of it cannot be written; see why above")
        return await look_up(self._database, self._owner.collection, ids)

    def _lose_table(self, error: CollectionGone) -> None:
        while self._looked_up:
            item = self._looked_up.popleft()
            if item.job.is_released:
                item.settle(Outcome.WITHDRAWN)
            else:
                self._owner.lose_table(item, error)

    def _admit(self, item: RunningItem, found: Found) -> None:
        known = found.known.get(item.id)
        if item.job.is_released or self._owner.is_dropped:
            item.settle(Outcome.WITHDRAWN)
        elif known is not None and known.order > item.order:
            item.settle(Outcome.SUPERSEDED)
        elif item.id in found.rowless:
            self._owner.refuse_rowless(item)
        elif known is None or not _has_vector_of(item, known):
            self._owner.embed(item)
        elif known.order == item.order:
            item.settle(Outcome.UNCHANGED)
        else:
            self._owner.touch(item)


def _has_vector_of(item: RunningItem, known: Known) -> bool:
    return known.content_hash == item.content_hash and known.has_vector and not known.deleted
