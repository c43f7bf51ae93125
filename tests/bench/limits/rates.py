"""Requests and tokens a minute, each alone and together, against a service that refuses what exceeds them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

from embedq.testing.busiest import busiest
from embedq.testing.control import CallRecord
from tests.bench import corpus
from tests.bench.ground import ground
from tests.bench.limits.records import between, throttled_share
from tests.bench.report import Report

MODEL = "rated"
PROCESSES = 4
LATENCY = 0.2
REQUESTS = 600
TOKENS = 1_000_000
TOKENS_A_TEXT = 80
"""About: texts have 25 to 135 tokens."""


@dataclass(frozen=True)
class Case:
    """Limits, and texts a request that let them bind."""

    name: str
    limits: dict[str, int]
    texts: int

    def backlog(self, seconds: float) -> int:
        """More texts than the limits let through."""
        most = [self.limits.get("requests_per_minute", TOKENS) * self.texts]
        if tokens := self.limits.get("tokens_per_minute"):
            most.append(tokens // TOKENS_A_TEXT)
        return int(min(most) * (seconds / 60 + 1) * 1.2)


CASES = (
    Case("requests", {"requests_per_minute": REQUESTS}, 2),
    Case("tokens", {"tokens_per_minute": TOKENS}, 64),
    Case("both", {"requests_per_minute": REQUESTS, "tokens_per_minute": TOKENS}, 22),
)


def run(report: Report, quick: bool) -> None:
    """One case after the other."""
    length, warm = (24.0, 6.0) if quick else (190.0, 60.0)
    for case in CASES:
        with ground(report) as where:
            where.configure({MODEL: {"max_concurrency": 16, "max_inputs": case.texts, **case.limits}})
            where.create({"docs": MODEL})
            where.api.configure(MODEL, latency=LATENCY, **case.limits)
            where.fill("docs", _texts(case.backlog(length)), a_message=32)
            with where.workers(PROCESSES):
                where.api.wait_for(calls=1, timeout=30)
                began = time.monotonic()
                time.sleep(length)
                calls = where.api.calls(MODEL)
            where.check_backlog("docs", MODEL)
            _report(report, case, calls, began + warm, began + length, warm)


def _report(
    report: Report, case: Case, calls: list[CallRecord], since: float, until: float, warm: float
) -> None:
    most = busiest(calls, 60.0)
    judged = [call for call in between(calls, since, until) if call.admitted]
    minutes = (until - since) / 60
    used = {
        "requests": (len(judged) / minutes, case.limits.get("requests_per_minute"), most.calls),
        "tokens": (
            sum(call.tokens for call in judged) / minutes,
            case.limits.get("tokens_per_minute"),
            most.tokens,
        ),
    }
    for what, (_, limit, busiest_minute) in used.items():
        if limit:
            report.add(f"{case.name}: {what} in the busiest minute", busiest_minute, at_most=limit)
    share = max(average / limit for average, limit, _ in used.values() if limit)
    report.add(f"{case.name}: of the limit in use, from {warm:.0f} s on", share, "{:.1%}", at_least=0.95)
    report.add(f"{case.name}: calls that got 429", throttled_share(calls), "{:.2%}", at_most=0.001)
    report.add(f"{case.name}: tokens a request", sum(c.tokens for c in judged) / max(1, len(judged)))


def _texts(count: int) -> Iterator[str]:
    """Texts of many lengths."""
    lengths = random.Random(7)
    for text in corpus.texts(count):
        yield text[: lengths.randint(100, corpus.CHARACTERS)]
