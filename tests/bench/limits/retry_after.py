"""One 429 that asks for a pause: nobody calls that model in it, and another model goes on as before."""

from __future__ import annotations

import time

from embedq.testing import faults
from embedq.testing.control import CallRecord
from tests.bench.corpus import texts
from tests.bench.ground import Ground, ground
from tests.bench.limits.records import between
from tests.bench.report import Report

PROCESSES = 4
LIMIT = 8
LATENCY = 0.2
SECONDS = 7
MILLISECONDS = 2_500
TOLERANCE = 0.05


def run(report: Report, quick: bool) -> None:
    """In seconds, as a date, in milliseconds."""
    seconds = 3 if quick else SECONDS
    cases = (
        (f"Retry-After: {seconds}", faults.Status(429, retry_after=str(seconds)), seconds, TOLERANCE),
        (f"a date {seconds} s ahead", faults.Status(429, retry_date=seconds), seconds, 1.0),
        (
            f"retry-after-ms: {MILLISECONDS}",
            faults.Status(429, headers={"retry-after-ms": str(MILLISECONDS)}),
            MILLISECONDS / 1000,
            TOLERANCE,
        ),
    )
    with ground(report) as where:
        where.configure(
            {name: {"max_concurrency": LIMIT, "max_inputs": 1} for name in ("throttled", "other")}
        )
        where.create({"a": "throttled", "b": "other"})
        where.api.configure(latency=LATENCY)
        needed = int(sum(3 * wait + 10 for _, _, wait, _ in cases) * LIMIT / LATENCY)
        for collection in ("a", "b"):
            where.fill(collection, texts(needed), a_message=16)
        with where.workers(PROCESSES):
            where.api.wait_for(calls=1, timeout=30)
            for name, fault, wait, tolerance in cases:
                _pause(report, where, name, fault, wait, tolerance)
        where.check_backlog("b", "other")


def _pause(
    report: Report, where: Ground, name: str, fault: faults.Status, wait: float, tolerance: float
) -> None:
    time.sleep(wait + 3)
    injected = time.monotonic()
    where.api.inject(fault, model="throttled", next_calls=1)
    time.sleep(wait + 3)
    said = _refusal(where.api.calls("throttled"), injected)
    after = [call.at - said for call in where.api.calls("throttled") if call.at > said]
    gap = min((gap for gap in after if gap > TOLERANCE), default=wait + 3)
    report.add(f"{name}: pause, s", gap, "{:.3f}", at_least=wait - tolerance, at_most=wait + tolerance)
    report.add(f"{name}: calls that were on their way", sum(gap <= TOLERANCE for gap in after), at_most=LIMIT)
    others = where.api.calls("other")
    before, during = between(others, said - wait, said), between(others, said, said + wait)
    report.add(
        f"{name}: calls of the other model, part of before",
        len(during) / len(before),
        "{:.1%}",
        at_least=0.95,
    )


def _refusal(calls: list[CallRecord], since: float) -> float:
    """When the 429 was sent."""
    return next(call.ended for call in calls if call.at >= since - 1 and call.status == 429 and call.ended)
