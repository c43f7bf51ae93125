"""The pipeline of one collection.

What arrives is held against the ledger, embedded where needed, and written.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from embedq.contract import Item
from embedq_worker.catalogue import Model
from embedq_worker.catalogue.model import count_characters
from embedq_worker.engine.embedding import Embeddings
from embedq_worker.engine.insisting import insist
from embedq_worker.engine.splitter import splitter_of
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.texts import Asker
from embedq_worker.engine.work import Outcome, RunningItem
from embedq_worker.engine.write_queue import Change, WriteQueue
from embedq_worker.errors import ApiError, NotCalled
from embedq_worker.store.burial import DeadLetter
from embedq_worker.store.collection import Collection
from embedq_worker.store.database import Database
from embedq_worker.store.key import is_key
from embedq_worker.store.ledger import Known, look_up
from embedq_worker.store.own_writer import OwnWriter
from embedq_worker.store.writer import Writer

logger = logging.getLogger(__name__)

_LOOK_UP_ITEMS = 2000
"""Items of one question to the ledger."""
_ADMIT_ITEMS = 100
"""Items that are admitted in one go."""
Bury = Callable[[DeadLetter, Callable[[], None]], None]
"""Writes a dead letter and calls back after its commit."""


class Pipeline:
    """Takes the items of one collection to their outcome."""

    def __init__(
        self, collection: Collection, model: Model, *, database: Database, dispatcher: Asker, bury: Bury
    ) -> None:
        self.collection = collection
        self._model = model
        self._database = database
        self._bury = bury
        self._arrivals: deque[RunningItem] = deque()
        self._looked_up: deque[RunningItem] = deque()
        """Held against the ledger now."""
        self._arrived = asyncio.Event()
        self._writes = WriteQueue(
            (Writer if collection.is_managed else OwnWriter)(database, collection),
            outage=database.outage,
            refused=self._refused_by_postgres,
            changed=self._take_again,
        )
        self._embeddings = Embeddings(
            collection,
            dispatcher,
            splitter_of(collection, model),
            embedded=self.embedded,
            refused=self._refused_by_the_service,
        )
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start working."""
        self.tasks = [
            asyncio.create_task(steadily(self._admit, "admitting items")),
            asyncio.create_task(self._writes.run()),
            asyncio.create_task(self._embeddings.run()),
        ]

    async def finish_writes(self) -> None:
        """Wait until every vector in hand is written."""
        await self._writes.finish()

    def let_go(self) -> None:
        """The collection was dropped: what waits for a vector does so no more."""
        self._embeddings.let_go()

    @property
    def is_over(self) -> bool:
        """Whether the collection was dropped and nothing of it is under way any more."""
        waiting = self._embeddings.waiting or self._arrivals or self._looked_up
        return self._embeddings.is_over and not (waiting or self._writes.is_busy)

    def withdraw(self) -> None:
        """Let go of the arrivals whose jobs were released."""
        arrivals = list(self._arrivals)
        self._arrivals.clear()
        for item in arrivals:
            if item.job.is_released:
                item.settle(Outcome.WITHDRAWN)
            else:
                self._arrivals.append(item)

    def take(self, item: RunningItem) -> None:
        """Take an item that keeps the contract's rules."""
        if not is_key(item.id, self.collection.key_type):
            self._dead(item, cause="row", code="22P02")  # what Postgres says of a text that is no such value
        elif item.text is None:
            self._writes.add(item, Change.DELETE)
        elif self.collection.on_too_long == "error" and self._too_long(item.text):
            self._dead(item, cause="text", code="too_long")
        else:
            self._take_again(item)

    def _take_again(self, item: RunningItem) -> None:
        self._arrivals.append(item)
        self._arrived.set()

    def _too_long(self, text: str) -> bool:
        limit = self._model.max_chars_alone
        return limit is not None and count_characters(text) > limit

    async def _admit(self) -> None:
        """Hold arrivals against the ledger, many at a time."""
        while not (self._arrivals or self._looked_up):  # some are left where the step before failed
            self._arrived.clear()
            await self._arrived.wait()
        while self._arrivals and len(self._looked_up) < _LOOK_UP_ITEMS:
            self._looked_up.append(self._arrivals.popleft())
        known = await self._known(list(self._looked_up))
        for number in range(len(self._looked_up)):
            item = self._looked_up.popleft()
            self._admit_one(item, known.get(item.id))
            if number % _ADMIT_ITEMS == 0:
                await asyncio.sleep(0)  # other collections' calls and answers go on

    def _admit_one(self, item: RunningItem, known: Known | None) -> None:
        if item.job.is_released:
            item.settle(Outcome.WITHDRAWN)
        elif known is not None and known.order > item.order:
            item.settle(Outcome.SUPERSEDED)
        elif (
            known is None or known.content_hash != item.content_hash or known.deleted or not known.has_vector
        ):
            self._embeddings.ask(item)
        elif known.order == item.order:
            item.settle(Outcome.UNCHANGED)
        else:
            self._writes.add(item, Change.TOUCH)

    async def _known(self, items: list[RunningItem]) -> dict[str, Known]:
        ids = list({item.id for item in items})
        work = partial(look_up, self._database, self.collection, ids)
        return await insist(work, f"collection {self.collection.name}", self._database.outage)

    def embedded(self, item: RunningItem) -> None:
        """The vectors of an item have come."""
        self._writes.add(item, Change.PUT)

    def _refused_by_the_service(self, item: RunningItem, error: ApiError) -> None:
        """Or nobody was asked: its job was released, or its collection dropped."""
        if not isinstance(error, NotCalled):
            code = error.code or "bad_input"
            self._dead(item, cause="text", code=code, status=error.status, parameter=error.parameter)
        elif self._embeddings.is_over:
            self._dead(item, cause="row", code="collection_dropped")
        else:
            item.settle(Outcome.WITHDRAWN)

    def _refused_by_postgres(self, item: RunningItem, code: str) -> None:
        self._dead(item, cause="row", code=code)

    def _dead(
        self,
        item: RunningItem,
        *,
        cause: str,
        code: str,
        status: int | None = None,
        parameter: str | None = None,
    ) -> None:
        letter = DeadLetter(
            collection=self.collection.name,
            lane=item.job.lane,
            cause=cause,
            code=code,
            status=status,
            parameter=parameter,
            item_id=item.id,
            version=item.version,
            attempts=item.attempts,
            source=item.job.source,
            payload=_payload(item),
        )
        self._bury(letter, lambda: item.settle(Outcome.DEAD))


def _payload(item: RunningItem) -> str:
    stored = Item(
        id=item.id, text=item.text, version=item.version, metadata=item.metadata, deleted=item.text is None
    )
    return json.dumps(msgspec.to_builtins(stored))
