"""``make bench-watch``: what a watched table costs those who write it, and whether its collection follows.

Unwatched and watched rounds take turns, with no worker running, on a Postgres that syncs each commit and on
one that does not. Then workers fill a collection from the table, and follow 500 updates a second. Exit code
1 if something is not as it has to be.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import NamedTuple

import psycopg

from embedq_worker.catalogue import Model
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.store.collections import create_collection
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import connect
from tests.bench.bed import Bed, bed
from tests.bench.report import Report
from tests.bench.watch.shop import WATCH, Updates, differing, make, percentile
from tests.support.workers import Worker

RATE = 500.0
"""Updates a second."""
TIMES = 1.5
MORE = 0.2
"""Milliseconds. The writers' 95th percentile may be so many times what it is unwatched, or so much above."""
SETTLED = 60.0
"""Seconds after the load in which the collection has to be exact."""


class Size(NamedTuple):
    """How much is done."""

    rows: int
    rounds: int
    seconds: float
    """Of a round, and of half the load."""


FULL = Size(100_000, 3, 30.0)
SMALL = Size(2_000, 1, 2.0)


def cost(report: Report, size: Size, durable: bool) -> None:
    """What the triggers cost the writers."""
    report.begin("writers, " + ("each commit synced" if durable else "no commit synced"))
    with Postgres(durable=durable) as server:
        with connect(server.url) as connection:
            apply_migrations(connection)
            create_collection(connection, name="products", model=Model(id="small", dimensions=8))
        make(server.url, size.rows)
        plain, watched = (Updates(server.url, size.rows, size.rows) for _ in range(2))
        for _ in range(size.rounds):
            plain.run(RATE, size.seconds)
            execute(server.url, WATCH)
            watched.run(RATE, size.seconds)
            execute(server.url, "SELECT embedq.unwatch('products')")
            execute(server.url, "TRUNCATE embedq.outbox")
    for name, updates in (("unwatched", plain), ("watched", watched)):
        report.add(f"median of an update, {name}, ms", percentile(0.5, updates.latencies), "{:.3f}")
    before, after = percentile(0.95, plain.latencies), percentile(0.95, watched.latencies)
    report.add("p95 of an update, unwatched, ms", before, "{:.3f}")
    report.add("p95 of an update, watched, ms", after, "{:.3f}", at_most=max(TIMES * before, before + MORE))


def execute(database_url: str, statement: str) -> None:
    """One statement."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement.encode())


def follow(where: Bed, report: Report, size: Size) -> None:
    """Whether the collection follows, and what that costs in calls."""
    report.begin(f"{size.rows:,} rows, {RATE:g} updates a second")
    where.command(
        "collection", "create", "products", "--model", "text-embedding-3-small", "--dimensions", "64"
    )
    make(where.database_url, size.rows)
    with Worker(where.environment, processes=2):
        execute(where.database_url, WATCH)
        report.add("filled within, seconds", until_equal(where, 600), "{:.1f}")
        report.add("texts called for, of the backfill", where.api.stats().texts, at_most=size.rows)
        updates = Updates(where.database_url, size.rows, 10 * size.rows)
        updates.run(RATE, 2 * size.seconds)
        report.add("updates", len(updates.latencies))
        report.add("of these, of the text", updates.texts)
        report.add("p95 of an update while workers run, ms", percentile(0.95, updates.latencies), "{:.3f}")
        report.add("exact after the load, seconds", until_equal(where, SETTLED), "{:.1f}", at_most=SETTLED)
        stats = where.api.stats()
        report.add("texts called for, in all", stats.texts, at_most=size.rows + updates.texts)
        report.add("texts called for twice", stats.billed_again, at_most=0)


def until_equal(where: Bed, patience: float) -> float:
    """Seconds until the collection says what its table says; infinite if that takes longer than it may."""
    began = time.monotonic()
    while differing(where.database_url):
        if time.monotonic() - began > patience:
            return float("inf")
        time.sleep(0.3)
    return time.monotonic() - began


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.watch", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small table, to try the benchmark itself")
    parser.add_argument("--only", choices=["cost", "follow"], help="one part alone")
    arguments = parser.parse_args()
    size = SMALL if arguments.quick else FULL
    report = Report()
    if arguments.only != "follow":
        for durable in (True, False):
            cost(report, size, durable)
    if arguments.only != "cost":
        with bed() as where:
            where.api.configure(latency=0.1, latency_per_text=0.0005, dimensions=64)
            follow(where, report, size)
    print(f"\n{report.table()}\n\n{len(report.missed)} missed")
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
