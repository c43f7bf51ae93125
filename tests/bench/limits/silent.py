"""A service that silently takes 12 calls at a time, while 64 are configured."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from math import floor

import redis

from tests.bench.corpus import texts
from tests.bench.ground import ground
from tests.bench.limits.records import between, throttled_share
from tests.bench.report import Report
from tests.bench.sampler import Sampler

MODEL = "silent"
PROCESSES = 4
CONFIGURED = 64
ALLOWED = 12
LATENCY = 0.2
LEARNING = 30.0
WINDOW = 10.0


@dataclass
class LimitLog:
    """The limit that the fleet keeps, over time."""

    broker: redis.Redis
    seen: list[tuple[float, int]] = field(default_factory=list)

    def look(self) -> None:
        """Note it."""
        value = self.broker.hget(f"embedq:model:{MODEL}", "limit")
        limit = CONFIGURED if value is None else floor(float(value) + 1e-9)
        self.seen.append((time.monotonic(), limit))

    def medians(self, since: float, until: float) -> list[float]:
        """The median of each whole window."""
        windows = [since + number * WINDOW for number in range(int((until - since) / WINDOW))]
        return [
            statistics.median(limit for at, limit in self.seen if start <= at < start + WINDOW)
            for start in windows
        ]


def run(report: Report, quick: bool) -> None:
    """Learn the limit, and keep to it."""
    length = 60.0 if quick else 120.0
    with ground(report) as where:
        where.configure({MODEL: {"max_concurrency": CONFIGURED, "max_inputs": 1, "concurrency": "aimd"}})
        where.create({"docs": MODEL})
        where.api.configure(latency=LATENCY, max_concurrency=ALLOWED)
        where.fill("docs", texts(int(length * ALLOWED / LATENCY * 1.2)), a_message=16)
        log = LimitLog(where.broker)
        with where.workers(PROCESSES):
            where.api.wait_for(calls=1, timeout=30)
            began = time.monotonic()
            with Sampler(0.1, log.look):
                time.sleep(length)
            calls = where.api.calls(MODEL)
        where.check_backlog("docs", MODEL)
    since, until = began + LEARNING, began + length
    medians = log.medians(since, until)
    late = between(calls, since, until)
    answered = sum(call.status == 200 for call in late) / (until - since)
    report.add("lowest median limit of 10 s, after 30 s", min(medians), "{:g}", at_least=10)
    report.add("highest median limit of 10 s, after 30 s", max(medians), "{:g}", at_most=12)
    report.add("calls that got 429, after 30 s", throttled_share(late), "{:.2%}", at_most=0.01)
    report.add("calls that got 429, before", throttled_share(between(calls, began, since)), "{:.2%}")
    report.add(
        "of the calls that the service could answer, after 30 s", answered / (ALLOWED / LATENCY), "{:.1%}"
    )
