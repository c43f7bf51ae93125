"""SIGTERMs at random moments under load: each worker stops in time and in order, another replaces it."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

from embedq import Producer
from tests.bench.ground import Ground, ground
from tests.bench.report import Report
from tests.bench.sampler import Sampler
from tests.support.workers import Worker

MODEL = "terms"
SLOTS = 4
"""Workers at a time."""
LATENCY = 0.4
"""Seconds of a call: a random moment is most often in the middle of many."""
DRAIN_TIME = 5.0
ALLOWED = 2.0
"""Seconds beyond the drain time."""
OLDEST = 2.0
"""Seconds that a worker works before it is told to stop, at most."""
_QUEUED = 200
_SIZES = (1, 1, 1, 16, 60)
"""Items of a message."""


@dataclass(frozen=True)
class Stop:
    """How a worker stopped: exit code, seconds, and what it said."""

    code: int
    seconds: float
    output: str


class Backlog(Sampler):
    """Keeps messages of all sizes queued for the length of a ``with`` block."""

    def __init__(self, producer: Producer, collection: str) -> None:
        super().__init__(0.05, self._step)
        self.sent = 0
        """Items so far; ids are the numbers below it."""
        self._producer = producer
        self._collection = collection
        self._chance = random.Random(21)

    def _step(self) -> None:
        while self._producer.waiting(self._collection)[0] < _QUEUED:
            ids = range(self.sent, self.sent + self._chance.choice(_SIZES))
            items = [{"id": str(number), "text": f"text {number}"} for number in ids]
            self.sent += self._producer.enqueue_many(self._collection, items)


def stop_at_random(environment: Mapping[str, str], seed: int, drain_time: float = DRAIN_TIME) -> Stop:
    """Start a worker, let it work for a random time, tell it to stop."""
    age = random.Random(seed).uniform(0, OLDEST)
    with Worker(environment) as worker:
        time.sleep(age)
        told = time.monotonic()
        code = worker.stop(timeout=drain_time + 30)
        return Stop(code, time.monotonic() - told, worker.output)


def run(report: Report, quick: bool) -> None:
    """Workers come and go over one backlog; then others finish it."""
    stops_wanted = 12 if quick else 200
    with ground(report) as where:
        where.configure({MODEL: {"max_concurrency": 16, "max_inputs": 16}}, drain_time=DRAIN_TIME)
        where.create({"docs": MODEL})
        where.api.configure(latency=LATENCY)
        seeds = count()
        with Backlog(where.producer, "docs") as backlog, ThreadPoolExecutor(SLOTS) as slots:
            stops = list(
                slots.map(lambda _: stop_at_random(where.environment, next(seeds)), range(stops_wanted))
            )
        with where.workers(2):
            where.wait_until_stored("docs", backlog.sent, timeout=120)
        _report(report, where, stops, backlog.sent)


def _report(report: Report, where: Ground, stops: list[Stop], sent: int) -> None:
    seconds = [stop.seconds for stop in stops]
    bad = [stop for stop in stops if stop.code != 0]
    report.add("SIGTERMs", len(stops), at_least=len(stops))
    report.add("exit codes other than 0", len(bad), at_most=0)
    report.add("longest exit, s", max(seconds), "{:.2f}", at_most=DRAIN_TIME + ALLOWED)
    report.add("median exit, s", statistics.median(seconds), "{:.2f}")
    report.add("items", sent)
    report.add("items lost", sent - where.stored("docs"), at_most=0)
    stats = where.api.stats()
    report.add("calls that were cut off", stats.statuses.get(0, 0), at_most=0)
    report.add("texts billed", stats.billed_texts)
    report.add("texts billed twice", stats.billed_again, at_most=0)
    for stop in bad[:3]:
        report.complaints += [f"exit code {stop.code}:", *stop.output.splitlines()[-15:]]
