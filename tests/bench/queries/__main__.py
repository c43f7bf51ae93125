"""``make bench-queries``: what ``embed_query`` takes above the API's own time, asked of a fleet that idles.

One worker process, and an API that answers after a fixed time and says how long each call was with it.
Questions come one by one, at random moments, from each kind of producer. Exit code 1 if they take too long.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from embedq import AsyncProducer, Producer
from tests.bench.bed import Bed, bed
from tests.bench.report import Report
from tests.support.workers import Worker

WANTED = 15
"""Milliseconds, 99th percentile."""
LATENCY = 0.05
GAP = 0.1
"""Seconds between two questions, at most."""
Ask = Callable[[str], Awaitable[object]]


async def measure(report: Report, where: Bed, questions: int) -> None:
    """Ask by either producer, after a first question that connects everybody."""
    where.api.configure(latency=LATENCY, latency_per_text=0.0)
    with Producer(where.environment["EMBEDQ_BROKER_URL"]) as producer:

        async def by_thread(text: str) -> object:
            return producer.embed_query("docs", text)

        await above(report, where, "Producer", by_thread, questions)
    async with AsyncProducer(where.environment["EMBEDQ_BROKER_URL"], query_cache_size=1) as asking:
        await above(report, where, "AsyncProducer", lambda text: asking.embed_query("docs", text), questions)
        report.begin("a query that is kept")
        took = [await timed(lambda text: asking.embed_query("docs", text), "kept") for _ in range(questions)]
        report.add("99th percentile, ms", percentile(took[1:], 99), "{:.3f}")


async def above(report: Report, where: Bed, name: str, ask: Ask, questions: int) -> None:
    """What each question took, less the time of its call."""
    report.begin(name)
    await ask(f"{name}, the first")
    before = len(where.api.calls())
    took = []
    for number in range(questions):
        await asyncio.sleep(random.uniform(0, GAP))
        took.append(await timed(ask, f"{name}, question {number}"))
    calls = where.api.calls()[before:]
    assert len(calls) == questions, "each question is one call"
    own = [1_000 * ((call.ended or call.at) - call.at) for call in calls]
    over = [each - call for each, call in zip(took, own, strict=True)]
    report.add("the API's own time, ms (median)", statistics.median(own), "{:.1f}")
    report.add("above it, ms (median)", statistics.median(over), "{:.1f}")
    report.add("above it, ms (99th percentile)", percentile(over, 99), "{:.1f}", at_most=WANTED)
    report.add("above it, ms (maximum)", max(over), "{:.1f}")


async def timed(ask: Ask, text: str) -> float:
    """Milliseconds of one question."""
    began = time.perf_counter()
    await ask(text)
    return 1_000 * (time.perf_counter() - began)


def percentile(values: Sequence[float], which: int) -> float:
    """By the nearest rank."""
    return sorted(values)[max(0, -(-len(values) * which // 100) - 1)]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.queries", description=__doc__)
    parser.add_argument("--questions", type=int, default=500, help="of each producer")
    arguments = parser.parse_args()
    report = Report()
    with bed() as where:
        where.create("docs")
        with Worker(where.environment, []):
            asyncio.run(measure(report, where, arguments.questions))
    print(f"\n{report.table()}\n\n{len(report.missed)} missed")
    sys.exit(bool(report.missed))


if __name__ == "__main__":
    main()
