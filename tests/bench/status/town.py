"""A town: many collections, long queues, workers that report, and nothing that works any of it off."""

from __future__ import annotations

import time
from dataclasses import dataclass

import redis

from embedq.contract import queue_name
from embedq.messages import job_message
from embedq_worker import names
from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.intake.scripts import REPORT
from embedq_worker.store.collections import create_collection
from embedq_worker.store.fleet.reports import WorkerReport, fields_of
from embedq_worker.store.postgres.connections import Connection
from tests.support.indexed import fill

MODELS = ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002")
SIZES = DimensionRange(min=1, max=4_000)
_PUSHED = 7_000
"""Messages of one LPUSH: Lua's unpack takes no more than 8,000."""
_PUSH = """
local batch = {}
for number = 1, ARGV[2] do
  batch[number] = 'm'
end
for _ = 1, ARGV[1] do
  redis.call('LPUSH', KEYS[1], unpack(batch))
end
return redis.call('LLEN', KEYS[1])
"""
_LIFE = "3600"
"""Seconds that reports and pace live here: nobody renews them."""


@dataclass(frozen=True)
class Size:
    """How large it is. ``longest`` messages in the first collection's queue, ``others`` in each other's."""

    collections: int
    longest: int
    others: int
    rows: int
    workers: int


FULL = Size(collections=50, longest=10_000_000, others=200_000, rows=1_000, workers=8)
SMALL = Size(collections=4, longest=20_000, others=100, rows=10, workers=2)


def build(connection: Connection, broker: redis.Redis, size: Size) -> int:
    """Build it; returns the messages that are queued."""
    queued = 0
    for number in range(size.collections):
        name = f"c{number:02}"
        model = Model(id=MODELS[number % len(MODELS)], dimensions=16, allowed_dimensions=SIZES)
        fill(connection, create_collection(connection, name=name, model=model), size.rows)
        queued += push(broker, queue_name(name), size.longest if number == 0 else size.others)
    for worker in range(size.workers):
        report(broker, worker, size.collections)
    return queued


def push(broker: redis.Redis, queue: str, messages: int) -> int:
    """One real message, the oldest, and very small ones after it; returns the queue's length."""
    collection = queue.split(".")[1]
    oldest = job_message(collection, queue, b'{"v":1}', 12, time.time() - 3_600)
    broker.lpush(queue, oldest.payload)
    batch = min(_PUSHED, messages)
    while (length := int(broker.llen(queue))) < messages:
        left = messages - length
        broker.eval(_PUSH, 1, queue, max(1, min(100, left // batch)), min(batch, left))
    return length


def report(broker: redis.Redis, number: int, collections: int) -> None:
    """What a busy worker says, who has something of every collection in hand."""
    process = f"host-{number}-ab12"
    queues = [queue_name(f"c{each:02}") for each in range(collections)]
    said = fields_of(
        WorkerReport(
            process=process,
            host=f"host-{number}",
            pid=1_000 + number,
            version="0.1.0",
            uptime=86_400.0,
            messages=10_000,
            items=120_000,
            items_per_second=250.0,
            in_hand=dict.fromkeys(queues, (20, 240)),
        )
    )
    flat = [part for pair in said.items() for part in pair]
    news = [part for each in range(collections) for part in (f"c{each:02}", "100", "1200")]
    broker.zadd(names.WORKERS, {process: time.time() + 3_600})
    REPORT.run(broker, [names.REPORT + process], [_LIFE, names.PACE, _LIFE, str(len(flat)), *flat, *news])
