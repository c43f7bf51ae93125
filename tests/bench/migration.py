"""``make bench-migration``: 20,000 rows move to another model while 50 writes a second and searches go on."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from tests.bench.bed import LATENCY, LATENCY_PER_TEXT, MODEL, Bed, bed
from tests.bench.report import Report
from tests.support.moving import SALT, Moving, give_two_models
from tests.support.workers import Worker

NEW = "text-embedding-3-large"
DIMENSIONS = 256
WRITES = 50.0
"""Writes a second."""


def step(where: Bed, report: Report, name: str, *options: str) -> None:
    """One step of the move, timed."""
    began = time.monotonic()
    try:
        print("  " + where.command("collection", "migrate", "docs", *options).strip(), flush=True)
    except subprocess.CalledProcessError as error:
        report.fail(name, str(error.stderr or error.stdout).strip()[-200:])
        return
    report.add(f"{name}, seconds", time.monotonic() - began, "{:,.1f}")


def move(where: Bed, report: Report, rows: int) -> None:
    """The whole of it; what is wrong at the end is an assertion."""
    moving = Moving(where.database_url, where.environment["EMBEDQ_BROKER_URL"], DIMENSIONS)
    where.command("collection", "create", "docs", "--model", MODEL, "--dimensions", str(DIMENSIONS))
    moving.load(rows)
    with Worker(where.environment, processes=2):
        while where.rows("docs") < rows:
            time.sleep(0.2)
        where.command("index", "build", "docs")
        with moving.going_on(WRITES) as watch:
            step(where, report, "fill and index", "--model", NEW, "--dimensions", str(DIMENSIONS))
            for name, generation in (("--switch", 2), ("--undo", 1), ("--switch", 2)):
                step(where, report, name.strip("-"), name)
                moving.wait_for_more(generation, 100)
        while where.broker.hlen("embedq:unacked") or where.broker.keys("embedq.*"):
            time.sleep(0.1)
        step(where, report, "what was left")
        report.add("search statements answered by the old model", watch.answers[1], at_least=100)
        report.add("search statements answered by the new model", watch.answers[2], at_least=100)
        report.add("search statements with a vector of another generation, refused", watch.refused)
        report.add("queries embedded and searched", watch.queries)
        report.add("statements with a mixed result", len(watch.mixed), at_most=0)
        report.add("failures of readers and writers", len(watch.errors), at_most=0)
        moving.check_rows("embedding", SALT)
        moving.check_rows("embedding_g1", "")
        report.add("ids with their last text and both vectors", len(moving.expected), at_least=1)
        step(where, report, "finish", "--finish")


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    arguments = parser.parse_args()
    report = Report()
    with bed() as where:
        where.api.configure(latency=LATENCY, latency_per_text=LATENCY_PER_TEXT)
        give_two_models(where.api, MODEL, NEW)
        report.begin(f"{arguments.rows:,} rows, {WRITES:g} writes a second")
        move(where, report, arguments.rows)
    print(report.table())
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
