"""Ten collections of one model with a Zipf-distributed backlog: when each is done, beside its fair share."""

from __future__ import annotations

import time

from tests.bench.corpus import texts
from tests.bench.ground import Ground, ground
from tests.bench.report import Report

MODEL = "shared"
PROCESSES = 4
COLLECTIONS = 10
LIMIT = 8
INPUTS = 4
LATENCY = 0.1


def run(report: Report, quick: bool) -> None:
    """Fill all, then start the workers."""
    largest = 1_500 if quick else 6_000
    backlogs = {f"docs_{number}": largest // number for number in range(1, COLLECTIONS + 1)}
    with ground(report) as where:
        where.configure({MODEL: {"max_concurrency": LIMIT, "max_inputs": INPUTS}})
        where.create(dict.fromkeys(backlogs, MODEL))
        where.api.configure(latency=LATENCY)
        for seed, (name, backlog) in enumerate(backlogs.items()):
            where.fill(name, texts(backlog, seed))
        with where.workers(PROCESSES):
            where.api.wait_for(calls=1, timeout=30)
            for name, backlog in backlogs.items():
                where.wait_until_stored(name, backlog, timeout=300)
        _report(report, where, backlogs)


def _report(report: Report, where: Ground, backlogs: dict[str, int]) -> None:
    """Times are those of the transactions that stored the rows."""
    began = _wall_clock(where.api.calls(MODEL)[0].at)
    first, last = {}, {}
    for name in backlogs:
        query = f"SELECT extract(epoch FROM min(updated_at)), extract(epoch FROM max(updated_at)) FROM {name}"  # noqa: S608  # our own names
        ((earliest, latest),) = where.sql(query)
        first[name], last[name] = float(earliest) - began, float(latest) - began
    rate = sum(backlogs.values()) / max(last.values())
    fair = ideal(backlogs, rate)
    ratios = {name: last[name] / fair[name] for name in backlogs}
    for name, backlog in backlogs.items():
        report.add(f"{name}, {backlog:,} texts: done after, s (fair: {fair[name]:.1f})", last[name], "{:.1f}")
    report.add("texts/s in all", rate)
    report.add("done, times the fair time, at worst", max(ratios.values()), "{:.2f}", at_most=2)
    report.add("first row of a collection, s, at worst", max(first.values()), "{:.2f}")


def ideal(backlogs: dict[str, int], rate: float) -> dict[str, float]:
    """When each is done if all that are not done share ``rate`` equally, in seconds."""
    done: dict[str, float] = {}
    now = level = 0.0
    for name, backlog in sorted(backlogs.items(), key=lambda entry: entry[1]):
        now += (backlog - level) * (len(backlogs) - len(done)) / rate
        level = backlog
        done[name] = now
    return done


def _wall_clock(monotonic: float) -> float:
    return time.time() - time.monotonic() + monotonic
