"""Model B, bound by its API, alone and beside a model A in all kinds of trouble, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import psutil

from embedq.contract import REGISTRY_KEY, queue_name
from embedq.testing import faults
from tests.bench.corpus import texts
from tests.bench.ground import Ground, ground
from tests.bench.limits.records import answered_texts
from tests.bench.limits.single import Singles
from tests.bench.report import Report

PROCESSES = 2
LIMIT = 8
INPUTS = 32
LATENCY = 0.15
SPARE = "spare"
"""The key under which A's backlog waits for the runs in which it is needed."""


@dataclass(frozen=True)
class Trouble:
    """What A does, and its backlog."""

    name: str
    begin: Callable[[Ground], None]
    backlog: int = 5_000


@dataclass(frozen=True)
class Run:
    """B's texts a second, the median seconds of its single items, the part of the processor in use."""

    rate: float
    single: float
    processor: float


TROUBLES = (
    Trouble("A answers in 10 s", lambda where: where.api.configure("a", latency=10.0)),
    Trouble("A never answers", lambda where: where.api.inject(faults.Hang(), model="a")),
    Trouble("A takes 6 requests a minute", lambda where: where.api.configure("a", requests_per_minute=6)),
    Trouble("A refuses the key", lambda where: where.api.inject(faults.RefusedKey(), model="a")),
    Trouble("A has a million items", lambda _: None, 1_000_000),
)


@dataclass(frozen=True)
class Size:
    """How much is run; ``warm`` and ``measured`` in seconds."""

    pairs: int
    warm: float
    measured: float
    million: int


def run(report: Report, quick: bool) -> None:
    """Every trouble."""
    size = Size(1, 2.0, 4.0, 50_000) if quick else Size(3, 5.0, 15.0, 1_000_000)
    with ground(report) as where:
        where.configure({name: {"max_concurrency": LIMIT, "max_inputs": INPUTS} for name in ("a", "b")})
        where.create({"a_docs": "a", "b_docs": "b"})
        numbers = count()
        for trouble in TROUBLES:
            _prepare(where, min(trouble.backlog, size.million))
            alone, beside = [], []
            for _ in range(size.pairs):
                alone.append(_run(where, size, None, next(numbers)))
                beside.append(_run(where, size, trouble, next(numbers)))
            _report(report, trouble, alone, beside)


def _prepare(where: Ground, backlog: int) -> None:
    """Enqueue A's backlog, and lay it aside."""
    where.broker.delete(SPARE)
    where.fill("a_docs", _small_texts(backlog))
    where.broker.rename(queue_name("a_docs", "bulk"), SPARE)


def _run(where: Ground, size: Size, trouble: Trouble | None, number: int) -> Run:
    _clear(where)
    where.api.configure(latency=LATENCY)
    seconds = size.warm + size.measured
    where.fill("b_docs", texts(int(seconds * 1.5 * LIMIT * INPUTS / LATENCY), number), start=f"{number}-")
    if trouble is not None:
        trouble.begin(where)
        where.broker.copy(SPARE, queue_name("a_docs", "bulk"))
    with where.workers(PROCESSES):
        where.api.wait_for(calls=1, timeout=30)
        time.sleep(size.warm)
        psutil.cpu_percent()
        since = time.monotonic()
        with Singles(where, "b_docs", f"{number}-single-") as singles:
            time.sleep(size.measured)
            until, processor = time.monotonic(), psutil.cpu_percent()
        calls = where.api.calls("b")
    rate = answered_texts(calls, since, until) / (until - since)
    return Run(rate, statistics.median(singles.seconds), processor / 100)


def _clear(where: Ground) -> None:
    """Forget the run before: queues, limiter, the API's settings and counts; A's backlog stays aside."""
    keys = [
        key
        for key in where.broker.scan_iter(count=1000)
        if key not in (SPARE.encode(), REGISTRY_KEY.encode())
    ]
    if keys:
        where.broker.delete(*keys)
    where.reset_api()


def _report(report: Report, trouble: Trouble, alone: list[Run], beside: list[Run]) -> None:
    def median(runs: list[Run], what: str) -> float:
        return float(statistics.median(getattr(run, what) for run in runs))

    name = trouble.name
    rate = median(beside, "rate") / median(alone, "rate")
    single = median(beside, "single") / median(alone, "single")
    report.add(f"{name}: B alone, texts/s", median(alone, "rate"))
    report.add(
        f"{name}: B alone, part of the processor in use", median(alone, "processor"), "{:.0%}", at_most=0.6
    )
    report.add(f"{name}: with A, part of the processor in use", median(beside, "processor"), "{:.0%}")
    report.add(f"{name}: B's throughput, part of alone", rate, "{:.1%}", at_least=0.95)
    report.add(f"{name}: B alone, median single item, ms", median(alone, "single") * 1000)
    report.add(f"{name}: B's single items, times alone", single, "{:.2f}", at_most=2)


def _small_texts(number: int) -> Iterator[str]:
    return (f"small text number {each}" for each in range(number))
