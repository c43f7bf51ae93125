"""Search texts while a million items are queued: how long they wait besides the API's own time."""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack

from embedq import Producer
from embedq.errors import EmbedqError
from tests.bench.ground import Ground, ground
from tests.bench.limits.records import percentile
from tests.bench.report import Report

MODEL = "asked"
LIMIT = 8
INPUTS = 16
LATENCY = 0.5
ALLOWED = LATENCY + 0.05
PAUSE = 0.4
"""Mean seconds that an asker pauses; there are two."""

CASES = {
    "four processes that serve everything": (("4",),),
    "all slots held by another process": (("1", "--lanes", "live,bulk"), ("1", "--lanes", "query")),
}


class Asker(threading.Thread):
    """Asks one query after the other, with exponential pauses; ``waits`` in seconds."""

    def __init__(self, producer: Producer, number: int, queries: int) -> None:
        super().__init__(daemon=True)
        self.waits: list[float] = []
        self.failed = 0
        self._producer = producer
        self._number = number
        self._queries = queries
        self._random = random.Random(number)

    def run(self) -> None:
        """Ask."""
        for query in range(self._queries):
            time.sleep(self._random.expovariate(1 / PAUSE))
            began = time.monotonic()
            try:
                self._producer.embed_query("docs", f"search text {query} of asker {self._number}")
            except EmbedqError:
                self.failed += 1
            else:
                self.waits.append(time.monotonic() - began - LATENCY)


def run(report: Report, quick: bool) -> None:
    """Both cases."""
    backlog, queries = (50_000, 40) if quick else (1_000_000, 200)
    for name, crews in CASES.items():
        with ground(report) as where:
            where.configure({MODEL: {"max_concurrency": LIMIT, "max_inputs": INPUTS}})
            where.create({"docs": MODEL})
            where.api.configure(latency=LATENCY)
            where.fill("docs", (f"small text number {number}" for number in range(backlog)))
            with ExitStack() as stack:
                for processes, *arguments in crews:
                    stack.enter_context(where.workers(int(processes), *arguments))
                where.api.wait_for(calls=LIMIT, in_flight=LIMIT, timeout=30)
                time.sleep(2)
                askers = _ask(where, queries)
            where.check_backlog("docs", MODEL)
            _report(report, name, askers)


def _ask(where: Ground, queries: int) -> list[Asker]:
    askers = [Asker(where.producer, number, queries // 2) for number in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    return askers


def _report(report: Report, name: str, askers: list[Asker]) -> None:
    waits = [wait for asker in askers for wait in asker.waits] or [float("inf")]
    report.add(f"{name}: queries not answered", sum(asker.failed for asker in askers), at_most=0)
    report.add(f"{name}: wait, p50, s", percentile(waits, 0.5), "{:.3f}")
    report.add(f"{name}: wait, p99, s", percentile(waits, 0.99), "{:.3f}", at_most=ALLOWED)
