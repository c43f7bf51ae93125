"""The meters of queues: what became of the messages of each, for the metrics. Read once a message."""

from __future__ import annotations

import time
from functools import partial

from embedq.contract import queue_parts
from embedq_worker.engine.delivery import Delivery
from embedq_worker.engine.monitoring.queue_labels import labels_of
from embedq_worker.engine.summary import Finish, Summary
from embedq_worker.engine.work import Outcome
from embedq_worker.metrics.items import ITEMS, LAG, MESSAGES, QUERIES

_OF_QUERIES = ("answered", "refused")


class QueueMeter:
    """Of one queue. It keeps its series: to look one up costs more than to add to it."""

    def __init__(self, queue: str) -> None:
        collection, lane = labels_of(queue)
        self._messages = MESSAGES.labels(collection, lane)
        self._lag = LAG.labels(collection, lane)
        if lane == "query":
            self._outcomes = {outcome: QUERIES.labels(collection, outcome) for outcome in _OF_QUERIES}
        else:
            self._outcomes = {outcome.value: ITEMS.labels(collection, lane, outcome) for outcome in Outcome}

    def add(self, summary: Summary, enqueued_at: float | None) -> None:
        """A message has ended; ``enqueued_at`` in seconds since the epoch, None where nobody said."""
        for what, number in summary.items():
            outcome = self._outcomes.get(what)
            if outcome is not None:
                outcome.inc(number)
        if Outcome.WITHDRAWN in summary:  # it goes back to its queue
            return
        self._messages.inc()
        if enqueued_at is not None:
            self._lag.observe(max(0.0, time.time() - enqueued_at))


class QueueMeters:
    """A meter for each queue that a message came from."""

    def __init__(self) -> None:
        self._meters: dict[str, QueueMeter] = {}

    def follow(self, delivery: Delivery) -> None:
        """Add a delivery to its queue's meter when it ends, before whoever waits for it is told."""
        delivery.finish = partial(self._end, delivery.queue, delivery.said_enqueued_at, delivery.finish)

    def close(self, collection: str) -> None:
        """A collection is gone; one of its name begins with new meters."""
        for queue in [queue for queue in self._meters if queue_parts(queue)[0] == collection]:
            del self._meters[queue]

    def _end(self, queue: str, enqueued_at: float | None, finish: Finish, summary: Summary) -> None:
        meter = self._meters.get(queue)
        if meter is None:
            meter = self._meters[queue] = QueueMeter(queue)
        meter.add(summary, enqueued_at)
        finish(summary)
