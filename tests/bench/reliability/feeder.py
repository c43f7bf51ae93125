"""Single-item messages at a steady rate, made as the producer makes them."""

from __future__ import annotations

import time

import msgspec
import redis

from embedq.contract import queue_name
from embedq.messages import job_message
from tests.bench.sampler import Sampler

_EVERY = 0.01


class Feeder(Sampler):
    """Enqueues ``rate`` messages a second for the length of a ``with`` block, to lane ``live``.

    It waits while ``most_queued`` are queued: a worker that is too slow for the rate works at its own.
    """

    def __init__(self, broker: redis.Redis, collection: str, rate: float, most_queued: int = 2000) -> None:
        super().__init__(_EVERY, self._step)
        self.sent = 0
        """Messages so far; their ids are the numbers below it."""
        self._broker = broker
        self._collection = collection
        self._queue = queue_name(collection, "live")
        self._rate = rate
        self._most_queued = most_queued
        self._due_from = time.monotonic()

    def _step(self) -> None:
        count = int((time.monotonic() - self._due_from) * self._rate)
        if not count:
            return
        self._due_from += count / self._rate
        if self._broker.llen(self._queue) < self._most_queued:
            self._broker.lpush(self._queue, *(self._message(self.sent + number) for number in range(count)))
            self.sent += count

    def _message(self, number: int) -> bytes:
        item = {"id": str(number), "text": f"text {number}"}
        job = msgspec.json.encode({"v": 1, "collection": self._collection, "items": [item]})
        return job_message(self._collection, self._queue, job, 1, time.time()).payload
