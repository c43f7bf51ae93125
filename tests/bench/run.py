"""``make bench``: the whole path beside a floor without a queue, interleaved in one run, medians and ratios.

The fake API answers after 100 ms and 0.5 ms a text; texts of about 110 tokens, 1,536 dimensions. The queue
is filled before the worker starts, and the clock runs from the worker's readiness to the last
acknowledgement. "Stock" is the same worker over kombu's own Redis transport.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from embedq import Producer
from tests.bench.bed import Bed, bed, cpu_of
from tests.bench.corpus import texts
from tests.support.workers import Worker

COLLECTION = "bench"
STOCK = "tests.support.stock:use"


@dataclass
class Figures:
    """One run: texts a second, and microseconds of CPU a text in the process that does the work."""

    rate: float
    cpu: float


def floor(where: Bed, count: int, seed: int, *, writers: int = 1) -> Figures:
    """No queue: the same HTTP client straight into COPY and upsert, over one connection or several."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.floor", COLLECTION, str(count), str(seed), str(writers)],
        env=where.environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures = json.loads(done.stdout)
    return Figures(count / figures["seconds"], figures["cpu"] / count * 1e6)


def whole_path(
    where: Bed, count: int, seed: int, *, single: bool, events: bool = False, change: str | None = None
) -> Figures:
    """One worker process, the queue filled beforehand. ``change``: see ``tests.support.changed``."""
    with Producer(where.environment["EMBEDQ_BROKER_URL"], check=False) as producer:
        fill(producer, count, seed, single=single)
    before = where.rows(COLLECTION)
    arguments = ["--loglevel", "WARNING", *(["--events"] if events else [])]
    with Worker(where.environment, arguments, ready=False, change=change) as worker:
        while where.broker.hlen("embedq:unacked") == 0:
            time.sleep(0.002)
        started, cpu = time.monotonic(), cpu_of(worker.pid)
        ended = where.wait_until_done(COLLECTION)
        used = cpu_of(worker.pid) - cpu
    stored = where.rows(COLLECTION) - before
    assert stored == count, f"{stored} of {count} texts are stored"
    return Figures(count / (ended - started), used / count * 1e6)


def fill(producer: Producer, count: int, seed: int, *, single: bool) -> None:
    """Enqueue ``count`` texts, 256 or one a message."""
    items = ({"id": f"{seed}-{number}", "text": text} for number, text in enumerate(texts(count, seed)))
    if single:
        for item in items:
            producer.enqueue(COLLECTION, id=item["id"], text=item["text"])
    else:
        producer.enqueue_many(COLLECTION, items)


def rounds(where: Bed, bulk: int, single: int, stock: int, repeat: int) -> Iterator[tuple[str, Figures]]:
    """Every case once a round, so that a noisy neighbour disturbs all of them alike."""
    for number in range(repeat):
        for name, run in (
            ("floor", partial(floor, where, bulk, number)),
            ("floor, two writers", partial(floor, where, bulk, number, writers=2)),
            ("bulk messages", partial(whole_path, where, bulk, number, single=False)),
            ("single-item", partial(whole_path, where, single, number, single=True)),
            ("single-item, events", partial(whole_path, where, single, number, single=True, events=True)),
            ("single-item, stock", partial(whole_path, where, stock, number, single=True, change=STOCK)),
        ):
            where.create(COLLECTION)
            yield name, run()
            where.drop(COLLECTION)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bulk", type=int, default=40_000, help="texts of the floor and of bulk messages")
    parser.add_argument("--single", type=int, default=20_000, help="texts of single-item messages")
    parser.add_argument("--stock", type=int, default=5_000, help="the same through kombu's own transport")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    results: dict[str, list[Figures]] = {}
    with bed() as where:
        for name, figures in rounds(
            where, arguments.bulk, arguments.single, arguments.stock, arguments.repeat
        ):
            results.setdefault(name, []).append(figures)
            print(f"{name:22} {figures.rate:8,.0f} texts/s {figures.cpu:7.0f} µs CPU a text", flush=True)
    report(results)


def report(results: dict[str, list[Figures]]) -> None:
    """Medians, and each case's ratio to the floor of the same round."""
    print("\nmedian over rounds; ratio to the floor of the same round")
    for name, runs in results.items():
        ratio = statistics.median(
            run.rate / base.rate for run, base in zip(runs, results["floor"], strict=True)
        )
        rate, cpu = (statistics.median(getattr(run, what) for run in runs) for what in ("rate", "cpu"))
        print(f"{name:22} {rate:8,.0f} texts/s {cpu:7.0f} µs CPU a text {ratio:6.0%} of the floor")


if __name__ == "__main__":
    main()
