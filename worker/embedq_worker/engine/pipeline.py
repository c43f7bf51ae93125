"""The pipeline of one collection.

What arrives is held against the ledger, embedded where needed, and written.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import msgspec

from embedq.contract import Item
from embedq_worker.catalogue.model import count_characters
from embedq_worker.engine.admission import Admission
from embedq_worker.engine.embedding import Embeddings
from embedq_worker.engine.moving.filling import Filling
from embedq_worker.engine.moving.models import Models
from embedq_worker.engine.moving.shadowing import Shadowing
from embedq_worker.engine.splitting.splitter import splitter_of
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.work import Outcome, RunningItem, rearrange
from embedq_worker.engine.write_queue import Change, WriteQueue
from embedq_worker.errors import NO_ROW, ApiError, CollectionGone, NotCalled
from embedq_worker.logs import get_logger
from embedq_worker.store.dead_letters.burial import DeadLetter
from embedq_worker.store.own_table.key import is_key
from embedq_worker.store.own_table.writer import OwnWriter
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.writer import Writer

logger = get_logger(__name__)

_AGAIN = 0.02
_THROWN_AWAY = (
    "{vectors} vectors of chunks of collection {collection} were thrown away, and will be billed again: the "
    "other chunks of their items did not come within drain_time; raise it, or have the cache of vectors on"
)
Bury = Callable[[DeadLetter, Callable[[], None]], None]
"""Writes a dead letter and calls back after its commit."""


class _Stranded(NamedTuple):
    """An item that could not be written: its vectors do not fit the columns as they are now.

    Or its table, or a column of it, is ``gone``.
    """

    item: RunningItem
    change: Change
    gone: CollectionGone | None


class Pipeline:
    """Takes the items of one collection to their outcome."""

    def __init__(
        self, models: Models, *, database: Database, bury: Bury, look: Callable[[], Awaitable[bool]]
    ) -> None:
        self.collection = models.collection
        self._model = models.model
        self._database = database
        self._bury = bury
        self._look = look
        self._admission = Admission(self, database)
        self._writes = WriteQueue(
            self._writer_of(models),
            name=models.collection.name,
            outage=database.outage,
            refused=self._refused_by_postgres,
            changed=self._admission.add,
            stranded=self._strand,
        )
        self.filling = Filling(models, database=database, bury=bury, look=look)
        self._embeddings = self._embeddings_of(models)
        self._former: list[Embeddings] = []
        """Of models that the collection has moved on from, while their vectors are waited for."""
        self._stranded: deque[_Stranded] = deque()
        self._has_stranded = asyncio.Event()
        self.is_dropped = False
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start working."""
        self.tasks = [
            asyncio.create_task(steadily(self._admission.admit_next, "admitting items")),
            asyncio.create_task(self._writes.run()),
            asyncio.create_task(self._embeddings.run()),
            asyncio.create_task(self.filling.run()),
            asyncio.create_task(steadily(self._place_stranded, "placing items that could not be written")),
        ]

    def follow(self, models: Models) -> None:
        """The collection has moved: other models' vectors are in its columns from now on.

        Who waits for a vector of a model that is not the collection's own any more waits no longer.
        """
        before = self._embeddings
        self.collection, self._model = models.collection, models.model
        self._embeddings = self._embeddings_of(models)
        self.tasks.append(asyncio.create_task(self._embeddings.run()))
        self._writes.follow(self._writer_of(models))
        self.filling.follow(models)
        self._former = [each for each in [*self._former, before] if each.waiting]
        if before.layout.generation != models.collection.generation:
            before.let_go()

    def keep_paid(self) -> None:
        """When what waits is withdrawn, go on with the items of which a part is paid for."""
        for embeddings in self._all_embeddings:
            embeddings.keep_paid()

    def throw_away(self) -> None:
        """Withdraw these too: the time to stop is over."""
        thrown_away = sum(embeddings.throw_away() for embeddings in self._all_embeddings)
        if thrown_away:
            name = self.collection.name
            logger.warning("vectors_thrown_away", _THROWN_AWAY, vectors=thrown_away, collection=name)

    async def finish_writes(self) -> None:
        """Wait until every vector in hand is written."""
        for embeddings in self._all_embeddings:
            embeddings.hurry()
        await self._writes.finish()
        while self._stranded:
            await asyncio.sleep(_AGAIN)
            await self._writes.finish()
        await self.filling.finish()

    def let_go(self) -> None:
        """The collection was dropped: what waits goes back to its queue, which may be another's by now."""
        self.is_dropped = self.filling.is_over = True
        for embeddings in self._all_embeddings:
            embeddings.let_go()

    @property
    def is_over(self) -> bool:
        """Whether the collection was dropped and nothing of it is under way any more."""
        waiting = self._admission.is_busy or any(each.waiting for each in self._all_embeddings)
        writing = self._writes.is_busy or self._stranded or self.filling.is_busy
        return self.is_dropped and not (waiting or writing)

    def withdraw(self) -> None:
        """Let go of the arrivals whose jobs were released."""
        self._admission.withdraw()

    def take(self, item: RunningItem) -> None:
        """Take an item that keeps the contract's rules."""
        if not is_key(item.id, self.collection.key_type):
            self._dead(item, cause="row", code="22P02")  # what Postgres says of a text that is no such value
        elif item.text is None:
            self._writes.add(item, Change.DELETE)
        elif self.collection.on_too_long == "error" and self._too_long(item.text):
            self._dead(item, cause="text", code="too_long")
        else:
            self._admission.add(item)

    @property
    def _all_embeddings(self) -> list[Embeddings]:
        return [self._embeddings, *self._former]

    def _writer_of(self, models: Models) -> Writer:
        kind = Writer if models.collection.is_managed else OwnWriter
        return kind(self._database, models.collection)

    def _embeddings_of(self, models: Models) -> Embeddings:
        shadowing = None
        if models.shadow is not None:
            shadowing = Shadowing(models.collection.name, models.shadow, self.filling.keep)
        return Embeddings(
            models.collection,
            models.asker,
            splitter_of(models.collection, models.model),
            embedded=self.embedded,
            refused=self._refused_by_the_service,
            shadowing=shadowing,
        )

    def _too_long(self, text: str) -> bool:
        limit = self._model.max_chars_alone
        return limit is not None and count_characters(text) > limit

    @property
    def lacks_rights(self) -> bool:
        """Whether rows cannot be written: what could not be stored is not paid for."""
        return self._writes.lacks_rights

    def embed(self, item: RunningItem) -> None:
        """Its text is new."""
        self._embeddings.ask(item)

    def touch(self, item: RunningItem) -> None:
        """Its text is stored already: only the version moves."""
        self._writes.add(item, Change.TOUCH)

    def refuse_rowless(self, item: RunningItem) -> None:
        """Somebody's own table has no row for its vector."""
        self._dead(item, cause="row", code=NO_ROW)

    def lose_table(self, item: RunningItem, error: CollectionGone) -> None:
        """Somebody's own table has lost what is written."""
        self._strand(item, Change.PUT, error)

    def embedded(self, item: RunningItem) -> None:
        """The vectors of an item have come; if not those of the models of now, the others are asked for."""
        if rearrange(item, self.collection.layout):
            self._writes.add(item, Change.PUT)
        elif item.job.is_released:
            item.settle(Outcome.WITHDRAWN)
        else:
            self._embeddings.ask(item)

    def _strand(self, item: RunningItem, change: Change, gone: CollectionGone | None) -> None:
        self._stranded.append(_Stranded(item, change, gone))
        self._has_stranded.set()

    async def _place_stranded(self) -> None:
        """What did not fit is placed anew, by the registry as it is now."""
        while not self._stranded:
            self._has_stranded.clear()
            await self._has_stranded.wait()
        is_served = await self._look()
        stranded, self._stranded = self._stranded, deque()
        for each in stranded:
            if is_served:
                self._place(*each)
            else:  # dropped, and perhaps created anew; or moved to a model that another worker has
                each.item.settle(Outcome.WITHDRAWN)

    def _place(self, item: RunningItem, change: Change, gone: CollectionGone | None) -> None:
        if gone is not None:  # by somebody's hand: the collection is registered
            self._dead(item, cause="row", code=gone.code)
        elif change is Change.PUT:
            self.embedded(item)
        else:
            self._writes.add(item, change)

    def _refused_by_the_service(self, item: RunningItem, error: ApiError) -> None:
        """Or nobody was asked: its job was released, its collection dropped or moved."""
        if not isinstance(error, NotCalled):
            code = error.code or "bad_input"
            self._dead(item, cause="text", code=code, status=error.status, parameter=error.parameter)
        elif self.is_dropped or item.job.is_released:
            item.settle(Outcome.WITHDRAWN)
        else:
            self._admission.add(item)

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
            outbox=((item.id, item.version),) if item.job.is_from_outbox else (),
        )
        self._bury(letter, partial(item.settle, Outcome.DEAD, letter.reason))


def _payload(item: RunningItem) -> str:
    stored = Item(
        id=item.id, text=item.text, version=item.version, metadata=item.metadata, deleted=item.text is None
    )
    return json.dumps(msgspec.to_builtins(stored))
