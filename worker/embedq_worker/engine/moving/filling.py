"""Filling: rows that were there before their collection began to move get the other model's vectors.

A fill names ids; their texts are read from the table, and asked for in the lane of the fill. It may run
twice, or beside writers: see ``store.filler``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from embedq_worker.catalogue.model import count_characters
from embedq_worker.engine.insisting import insist
from embedq_worker.engine.moving.fill_queue import FillQueue
from embedq_worker.engine.moving.models import Models, ShadowModel
from embedq_worker.engine.texts import Shape
from embedq_worker.engine.work import Outcome, RunningJob, Vector, content_hash
from embedq_worker.errors import ApiError, CollectionGone, CollectionMoved, NotCalled
from embedq_worker.limiter import Flow
from embedq_worker.logs import failure, get_logger
from embedq_worker.store.dead_letters.burial import DeadLetter
from embedq_worker.store.moving.fill_message import Fill
from embedq_worker.store.moving.filler import Filler, Unfilled
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.rows import Filled
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Spans

logger = get_logger(__name__)

SOURCE = "embedq collection migrate"
"""Who fills. A dead letter from it: the other model refuses a text, and its item is stored all the same."""
_LOOKS = 3
"""Times that the registry is read again for one fill."""
Bury = Callable[[DeadLetter, Callable[[], None]], None]
Look = Callable[[], Awaitable[bool]]


class Filling:
    """Of one collection. ``look`` has the registry read again."""

    def __init__(self, models: Models, *, database: Database, bury: Bury, look: Look) -> None:
        self._database = database
        self._bury = bury
        self._look = look
        self._queue = FillQueue(database.outage, look)
        self._reading: set[asyncio.Task[None]] = set()
        self._models = models
        self._filler: Filler | None = None
        self.is_over = False
        """Whether the collection was dropped."""
        self.follow(models)

    def follow(self, models: Models) -> None:
        """The collection's models, from now on."""
        self._models = models
        shadow = models.collection.shadow
        self._filler = None if shadow is None else Filler(self._database, models.collection)
        self._queue.follow(self._filler)

    async def run(self) -> None:
        """Store what comes for ever."""
        await self._queue.run()

    async def finish(self) -> None:
        """Wait until every vector in hand is stored."""
        await self._queue.finish()

    @property
    def generation(self) -> int | None:
        """Whose vectors are filled in now; None where there is nothing to be filled."""
        return None if self._filler is None else self._filler.generation

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The fills whose texts are being read."""
        return list(self._reading)

    @property
    def is_busy(self) -> bool:
        """Whether anything is read or stored."""
        return bool(self._reading) or self._queue.is_busy

    def keep(self, generation: int, filled: Filled) -> None:
        """Store a vector that came after its item had been stored without it."""
        self._queue.add(generation, filled, _tell_nobody)

    def take(self, job: RunningJob, fill: Fill) -> None:
        """Fill the rows of these ids; each id is settled once, when it has all its vectors."""
        task = asyncio.create_task(self._take(job, fill))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _take(self, job: RunningJob, fill: Fill) -> None:
        ids = list(dict.fromkeys(fill.items))
        for _ in range(len(fill.items) - len(ids)):
            job.settle(Outcome.SUPERSEDED)
        try:
            rows = await self._read(ids, fill.generation)
        except Exception as error:
            sentence = "the rows of a fill could not be read, they are left: {error}"
            logger.error("fill_unread", sentence, **failure(error))
            _settle_all(job, len(ids), Outcome.DEAD)
            return
        if rows is None:
            _settle_all(job, len(ids), Outcome.SUPERSEDED)
            return
        by_id: dict[str, list[Unfilled]] = {item_id: [] for item_id in ids}
        for row in rows:
            by_id[row.id].append(row)
        for lacking in by_id.values():
            self._ask(job, lacking, fill.generation)

    async def _read(self, ids: Sequence[str], generation: int) -> list[Unfilled] | None:
        """None where the collection's shadow is another's, or gone."""
        for _ in range(_LOOKS):
            filler = self._filler
            if filler is not None and self.generation == generation:
                try:
                    what = f"reading rows of collection {self._models.collection.name}"
                    return await insist(partial(filler.read, ids), what, self._database.outage, alone=True)
                except CollectionGone:
                    return None
                except CollectionMoved:
                    pass
            if not await self._look():
                return None
        return None

    def _ask(self, job: RunningJob, rows: Sequence[Unfilled], generation: int) -> None:
        shadow = self._models.shadow
        if job.is_released:
            job.settle(Outcome.WITHDRAWN)
        elif not rows:
            job.settle(Outcome.UNCHANGED)
        elif shadow is None or shadow.generation != generation:  # this worker does not have the model
            job.settle(Outcome.SUPERSEDED)
        else:
            waiting = _Rows(job, generation, len(rows))
            for row in rows:
                self._ask_row(shadow, row, waiting)

    def _ask_row(self, shadow: ShadowModel, row: Unfilled, waiting: _Rows) -> None:
        most = shadow.model.max_chars_alone
        waiter = _WaitingRow(self, row, waiting)
        if most is not None and count_characters(row.content) > most:
            self.bury(row, waiting, "too_long", None, None)
            return
        flow = Flow(waiting.job.lane, self._models.collection.name)
        shape = Shape(shadow.dimensions, "document")
        shadow.asker.ask(waiter.key, row.content, shape, flow, waiter)

    def add(self, filled: Filled, waiting: _Rows) -> None:
        """A row's vector has come."""
        self._queue.add(waiting.generation, filled, waiting.settle)

    def bury(
        self, row: Unfilled, waiting: _Rows, code: str, status: int | None, parameter: str | None
    ) -> None:
        """The model does not take a row's text: somebody has to know which.

        The item is stored all the same: replayed, the letter fills its rows, and never puts the item again.
        """
        fill = Fill(1, self._models.collection.name, waiting.generation, [row.id])
        letter = DeadLetter(
            collection=self._models.collection.name,
            lane=waiting.job.lane,
            cause="successor",
            code=code,
            status=status,
            parameter=parameter,
            item_id=row.id,
            version=row.version,
            attempts=1,
            source=SOURCE,
            payload=msgspec.json.encode(fill).decode(),
        )
        self._bury(letter, partial(waiting.settle, Outcome.DEAD))


class _Rows:
    """The rows of one id that wait; the worst that becomes of one is what became of the id."""

    __slots__ = ("_missing", "_outcomes", "generation", "job")

    def __init__(self, job: RunningJob, generation: int, missing: int) -> None:
        self.job = job
        self.generation = generation
        """Whose vectors they wait for."""
        self._missing = missing
        self._outcomes: set[Outcome] = set()

    def settle(self, outcome: Outcome) -> None:
        """One is done."""
        self._outcomes.add(outcome)
        self._missing -= 1
        if not self._missing:
            order = (Outcome.WITHDRAWN, Outcome.DEAD, Outcome.SUPERSEDED, Outcome.STORED)
            self.job.settle(next(each for each in order if each in self._outcomes))


class _WaitingRow:
    """A row that waits for its vector."""

    __slots__ = ("_filling", "_row", "_rows", "key")
    source: str | None = SOURCE
    spans: Spans = ()
    purpose: UsagePurpose = "fill"

    def __init__(self, filling: Filling, row: Unfilled, rows: _Rows) -> None:
        self._filling = filling
        self._row = row
        self._rows = rows
        self.key = content_hash(row.content)

    @property
    def is_gone(self) -> bool:
        filling, rows = self._filling, self._rows
        return filling.is_over or filling.generation != rows.generation or rows.job.is_released

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        filled = Filled(self._row.id, self._row.chunk, self.key, vector)
        self._filling.add(filled, self._rows)

    def refused(self, error: ApiError, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        if not isinstance(error, NotCalled):
            code = error.code or "bad_input"
            self._filling.bury(self._row, self._rows, code, error.status, error.parameter)
        elif self._rows.job.is_released:
            self._rows.settle(Outcome.WITHDRAWN)
        else:
            self._rows.settle(Outcome.SUPERSEDED)


def _settle_all(job: RunningJob, items: int, outcome: Outcome) -> None:
    for _ in range(items):
        job.settle(outcome)


def _tell_nobody(outcome: Outcome) -> None:
    """Nobody waits for it."""
