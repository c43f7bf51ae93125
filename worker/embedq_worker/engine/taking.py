"""Taking deliveries: what a message says is read, and its items are sent on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic

from embedq.errors import InvalidItem
from embedq_worker.catalogue import Model
from embedq_worker.engine.burial_queue import BurialQueue
from embedq_worker.engine.calling.dispatcher import Dispatcher
from embedq_worker.engine.delivery import (
    Delivery,
    as_payload,
    item_id_of,
    read_fill,
    read_job,
    read_query,
    version_in,
    version_of,
)
from embedq_worker.engine.directory import Directory, Served
from embedq_worker.engine.monitoring.queue_meter import QueueMeters
from embedq_worker.engine.outbox.relayed import is_relayed, items_named, relayed_items
from embedq_worker.engine.pipeline import Pipeline
from embedq_worker.engine.queries import Queries, QueryKind
from embedq_worker.engine.summary import Summary, died_of
from embedq_worker.engine.work import Hold, Outcome, RunningItem, RunningJob
from embedq_worker.errors import NotAJob, StoreError
from embedq_worker.logs import get_logger
from embedq_worker.store.dead_letters.burial import DeadLetter
from embedq_worker.tracing import TRACES, Spans, end_message

logger = get_logger(__name__)

_LOOK_AGAIN = 2.0
"""Seconds between two looks for a collection that is not known."""


class Taking:
    """Sends jobs and fills to the pipeline of their collection, queries to the dispatcher of its model.

    What is neither becomes a dead letter. ``tasks`` look for collections that are not known yet.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        queries: Queries,
        burials: BurialQueue,
        meters: QueueMeters,
        pipeline_of: Callable[[Served], Pipeline],
        dispatcher_of: Callable[[Model], Dispatcher],
    ) -> None:
        self._directory = directory
        self._queries = queries
        self._burials = burials
        self._meters = meters
        self._pipeline_of = pipeline_of
        self._dispatcher_of = dispatcher_of
        self._hold = Hold()
        """Of the jobs taken since the last release."""
        self.is_draining = False
        """Nothing more is taken: it is given back."""
        self.tasks: list[asyncio.Task[None]] = []

    def release(self) -> None:
        """Have all that was taken so far end as withdrawn where it waits."""
        self._hold.is_released = True
        self._hold = Hold()

    def take(self, delivery: Delivery) -> None:
        """Read a message's content and send its items on their way.

        An error of ours costs only this message.
        """
        self._meters.follow(delivery)
        self._guard(delivery, partial(self._take, delivery))

    def _guard(self, delivery: Delivery, work: Callable[[], None]) -> None:
        try:
            work()
        except NotAJob as error:
            self._bury_message(delivery, error.code)
        except Exception as error:
            # Without the traceback: an exception may quote what the message says.
            sentence = "a message of queue {queue} could not be taken: {error}"
            logger.error("message_not_taken", sentence, queue=delivery.queue, error=type(error).__name__)
            self._bury_message(delivery, type(error).__name__)

    def _take(self, delivery: Delivery) -> None:
        _trace(delivery)
        if self.is_draining:
            give_back(delivery)
            return
        if delivery.not_a_job is not None:
            raise NotAJob(delivery.not_a_job)
        served = self._directory.served(delivery.collection)
        if served is None:
            task = asyncio.create_task(self._take_after_a_look(delivery, self._hold))
            self.tasks.append(task)
            task.add_done_callback(self.tasks.remove)
        else:
            self._take_served(delivery, served)

    async def _take_after_a_look(self, delivery: Delivery, hold: Hold) -> None:
        """The collection may be younger than what we know of."""
        await self._look_for(hold)
        if hold.is_released:
            give_back(delivery)
            return
        served = self._directory.served(delivery.collection)
        self._guard(delivery, partial(self._take_served, delivery, served))

    async def _look_for(self, hold: Hold) -> None:
        while not hold.is_released:
            try:
                await self._directory.look_soon()
            except StoreError as error:
                sentence = "the collections cannot be read, trying again: {reason}"
                logger.warning("collections_unread", sentence, reason=str(error))
                await asyncio.sleep(_LOOK_AGAIN)
            else:
                return

    def _take_served(self, delivery: Delivery, served: Served | None) -> None:
        is_query = delivery.is_query
        if served is None and delivery.is_fill:  # whatever was to be filled is gone
            items = len(read_fill(delivery).items)
            delivery.finish({"items": items, Outcome.SUPERSEDED: items})
            return
        if served is None and self._directory.has_served(delivery.collection):
            give_back(
                delivery
            )  # it was fetched before the consumer heard that nobody serves it here any more
            return
        if served is None:
            raise NotAJob("unknown_collection")
        if is_query:
            self._take_query(delivery, served)
        elif delivery.is_fill:
            self._take_fill(delivery, served)
        else:
            self._take_job(delivery, served)

    def _take_query(self, delivery: Delivery, served: Served) -> None:
        try:
            query = read_query(delivery)
        except NotAJob as error:
            self._queries.fail(delivery.task_id, error.code, str(error), delivery.finish)
            return
        self._queries.ask(
            query,
            delivery.task_id,
            self._dispatcher_of(served.model),
            QueryKind(served.collection.dimensions, served.collection.generation),
            monotonic() + delivery.seconds_left,
            self._hold,
            delivery.finish,
            delivery.spans,
        )

    def _take_fill(self, delivery: Delivery, served: Served) -> None:
        fill = read_fill(delivery)
        job = RunningJob(
            len(fill.items),
            lane=delivery.lane,
            source=None,
            hold=self._hold,
            finish=delivery.finish,
            spans=delivery.spans,
        )
        self._pipeline_of(served).filling.take(job, fill)

    def _take_job(self, delivery: Delivery, served: Served) -> None:
        read = read_job(delivery, served.collection.versions)
        job = RunningJob(
            len(read.good) + len(read.bad),
            lane=delivery.lane,
            source=read.source,
            hold=self._hold,
            finish=delivery.finish,
            spans=delivery.spans,
            is_from_outbox=is_relayed(delivery.headers),
        )
        for raw, error in read.bad:
            self._bury_item(delivery, job, raw, error)
        pipeline = self._pipeline_of(served)
        for item in read.good:
            text = None if item.deleted else item.text
            pipeline.take(RunningItem(job, item.id, version_of(item, delivery), text, item.metadata))

    def _bury_item(self, delivery: Delivery, job: RunningJob, raw: object, error: InvalidItem) -> None:
        letter = DeadLetter(
            collection=delivery.collection,
            lane=delivery.lane,
            cause="text",
            code=error.rule,
            item_id=item_id_of(raw),
            version=version_in(raw, delivery),
            source=job.source,
            payload=as_payload(raw),
            outbox=items_named([raw]) if job.is_from_outbox else (),
        )
        self._burials.add(letter, partial(job.settle, Outcome.DEAD, letter.reason))

    def _bury_message(self, delivery: Delivery, code: str) -> None:
        letter = DeadLetter(
            collection=delivery.collection,
            lane=delivery.lane,
            cause=delivery.cause,
            code=code,
            version=delivery.clock_version,
            attempts=delivery.attempts,
            payload=as_payload(delivery.payload),
            outbox=relayed_items(delivery.headers, delivery.payload),
        )
        summary: Summary = {"items": 1, Outcome.DEAD: 1}
        died_of(summary, letter.reason)
        self._burials.add(letter, partial(delivery.finish, summary))


def _trace(delivery: Delivery) -> None:
    if not TRACES.is_on:
        return
    spans = TRACES.message(delivery.headers, delivery.queue, delivery.task_id, delivery.enqueued_at)
    if spans:
        delivery.spans = spans
        delivery.finish = partial(_finish_traced, spans, delivery.finish)


def _finish_traced(spans: Spans, finish: Callable[[Summary], None], summary: Summary) -> None:
    end_message(spans, summary)
    finish(summary)


def give_back(delivery: Delivery) -> None:
    """It has not been begun: its message goes back to its queue."""
    delivery.finish({"items": 1, Outcome.WITHDRAWN: 1})
