"""``make bench-memory``: 200,000 texts through one worker, and the memory of worker and producer."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

from embedq import Producer
from tests.bench.bed import Bed, bed
from tests.bench.corpus import texts
from tests.support.workers import Worker

COLLECTION = "bench"
FROM = 20_000
"""Texts after which memory has to be flat."""
ALLOWED = 50
"""MiB above what it was then."""


def produce(count: int) -> None:
    """The producer, a process of its own: enqueue, and print its memory at the start and at the end."""
    own = psutil.Process()
    seen: list[float] = []

    def items() -> Iterator[dict[str, str]]:
        for number, text in enumerate(texts(count)):
            if number % FROM == 0:
                seen.append(own.memory_info().rss / 2**20)
            yield {"id": str(number), "text": text}

    with Producer(check=False) as producer:
        producer.enqueue_many(COLLECTION, items())
    print(json.dumps(seen))


def watch(where: Bed, worker: Worker, count: int) -> list[tuple[int, float]]:
    """The worker's memory in MiB each time that another 20,000 rows are stored."""
    process = psutil.Process(worker.pid)
    seen: list[tuple[int, float]] = []
    while (rows := where.rows(COLLECTION)) < count:
        if rows >= FROM * (len(seen) + 1):
            seen.append((rows, process.memory_info().rss / 2**20))
            print(f"{rows:8,} rows: worker {seen[-1][1]:.0f} MiB", flush=True)
        time.sleep(0.2)
    seen.append((rows, process.memory_info().rss / 2**20))
    return seen


def run(count: int) -> int:
    """Run and print; 1 if memory grew."""
    with bed() as where:
        where.create(COLLECTION)
        command = [sys.executable, "-m", "tests.bench.memory", "--produce", "--count", str(count)]
        producer = subprocess.Popen(command, env=where.environment, stdout=subprocess.PIPE, text=True)
        with Worker(where.environment, ["--loglevel", "WARNING"], ready=False) as worker:
            worker_seen = watch(where, worker, count)
            where.wait_until_done(COLLECTION)
        output, _ = producer.communicate()
    producer_seen = json.loads(output)
    growth = {
        "worker": max(size for _, size in worker_seen) - worker_seen[0][1],
        "producer": max(producer_seen[1:]) - producer_seen[1],
    }
    for name, grown in growth.items():
        print(f"{name}: at most {grown:+.0f} MiB from {FROM:,} texts on (allowed {ALLOWED})")
    return int(any(grown > ALLOWED for grown in growth.values()))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--produce", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.produce:
        produce(arguments.count)
    else:
        sys.exit(run(arguments.count))


if __name__ == "__main__":
    main()
