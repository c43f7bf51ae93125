"""``make bench-status``: how soon ``embedq status --json`` answers, Python's start and all.

50 collections, one of them with 10,000,000 queued messages, the others with 200,000 each; eight workers that
report. Exit code 1 if it takes longer than it should.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import redis

from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.valkey import Valkey
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import connect
from tests.bench.report import Report
from tests.bench.status.town import FULL, SMALL, Size, build

WANTED = 200
"""Milliseconds."""
STATUS = [sys.executable, "-m", "embedq.cli", "status", "--json"]


def measure(report: Report, size: Size, runs: int) -> None:
    """Build the town and ask for its status again and again."""
    report.begin("status")
    with Postgres(durable=False) as postgres, Valkey() as valkey:
        url = postgres.create_database("status")
        with connect(url) as connection, redis.Redis.from_url(valkey.url) as broker:
            apply_migrations(connection)
            report.add("messages queued", build(connection, broker, size))
            environment = {**os.environ, "EMBEDQ_DATABASE_URL": url, "EMBEDQ_BROKER_URL": valkey.url}
            found = json.loads(subprocess.check_output(STATUS, env=environment))
            report.add("collections shown", len(found["collections"]), at_least=size.collections)
            start = times([sys.executable, "-c", "import psycopg, redis"], environment, runs)
            took = times(STATUS, environment, runs)
    report.add("Python with its two clients imported, ms (median)", statistics.median(start))
    report.add("the whole command, ms (median)", statistics.median(took), at_most=WANTED)
    report.add("the whole command, ms (maximum)", max(took))


def times(command: Sequence[str], environment: Mapping[str, str], runs: int) -> list[float]:
    """Milliseconds of each run."""
    seen = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        seen.append(1_000 * (time.perf_counter() - began))
    return seen


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.status", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a small town, to try the benchmark itself")
    arguments = parser.parse_args()
    report = Report()
    measure(report, SMALL if arguments.quick else FULL, arguments.runs)
    print(f"\n{report.table()}\n\n{len(report.missed)} missed")
    sys.exit(bool(report.missed))


if __name__ == "__main__":
    main()
