"""A random process of eight is killed every 30 s: nothing is exceeded, everything is stored."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import psutil
import redis

from embedq.testing.control import CallRecord
from tests.bench.corpus import texts
from tests.bench.ground import Crew, Ground, ground
from tests.bench.limits.records import call_seconds
from tests.bench.report import Report
from tests.bench.sampler import Sampler

MODEL = "mortal"
PROCESSES = 8
LIMIT = 20
LEASE = 5.0
LATENCY = 0.3
IN_HAND = 64
"""Messages of one text; what a killed process held is taken over, and runs apart."""
WARM = 5.0
"""Seconds from the first call that do not count."""
LOOK = 0.05


@dataclass
class Graves:
    """The leases of the dead: how many, when, and for how long at most."""

    broker: redis.Redis
    died: dict[int, float] = field(default_factory=dict)
    seen: list[tuple[float, int]] = field(default_factory=list)
    longest: float = 0.0

    def look(self) -> None:
        """Count the leases that have not lapsed and whose process is dead."""
        pipe = self.broker.pipeline(transaction=True)
        pipe.time()
        pipe.zrange(f"embedq:model:{MODEL}:leases", 0, -1, withscores=True)
        (seconds, micros), leases = cast("tuple[tuple[int, int], list[tuple[bytes, float]]]", pipe.execute())
        now, server_now = time.monotonic(), seconds * 1000 + micros / 1000
        pids = [int(holder.split(b"-")[1]) for holder, lapses in leases if lapses > server_now]
        dead = [pid for pid in pids if pid in self.died]
        self.seen.append((now, len(dead)))
        self.longest = max([self.longest, *(now - self.died[pid] for pid in dead)])

    def slot_seconds(self, since: float, until: float) -> float:
        """The integral of the slots that no dead process keeps."""
        held = 0.0
        for (at, dead), (next_at, _) in zip(self.seen, self.seen[1:], strict=False):
            held += dead * max(0.0, min(until, next_at) - max(since, at))
        return LIMIT * (until - since) - held


class Killer:
    """Kills one of the crew every so often."""

    def __init__(self, crew: Crew, graves: Graves, every: float) -> None:
        self._crew = crew
        self._graves = graves
        self._every = every
        self._random = random.Random(20)
        self._next_at = time.monotonic() + every

    def kill_if_due(self) -> None:
        """One process, at random."""
        if time.monotonic() < self._next_at:
            return
        self._next_at += self._every
        victim: psutil.Process = self._random.choice(self._crew.children())
        victim.kill()
        self._graves.died[victim.pid] = time.monotonic()


def run(report: Report, quick: bool) -> None:
    """Work off a queue under fire."""
    count, every = (2_500, 6.0) if quick else (20_000, 30.0)
    with ground(report) as where:
        where.configure({MODEL: {"max_concurrency": LIMIT, "max_inputs": 1}}, lease=LEASE)
        where.create({"docs": MODEL})
        where.api.configure(latency=LATENCY)
        where.fill("docs", texts(count), a_message=1)
        graves = Graves(where.broker)
        with (
            where.workers(PROCESSES, "--in-hand", str(IN_HAND)) as crew,
            Sampler(LOOK, graves.look),
        ):
            until = _work(where, Killer(crew, graves, every).kill_if_due)
            calls = where.api.calls(MODEL)
            _report(report, where, calls, graves, until)
            where.wait_until_stored("docs", count, timeout=90)
        report.add("texts stored", where.stored("docs"), at_least=count)


def _work(where: Ground, kill: Callable[[], None]) -> float:
    """Until nothing is queued; what is in hand then is the tail."""
    while where.queued("docs"):
        kill()
        time.sleep(0.1)
    return time.monotonic()


def _report(report: Report, where: Ground, calls: list[CallRecord], graves: Graves, until: float) -> None:
    since = calls[0].at + WARM
    used = call_seconds(calls, since, until) / graves.slot_seconds(since, until)
    report.add("processes killed", len(graves.died), at_least=1)
    report.add("most calls in flight at the API", where.seen(MODEL).max_in_flight, at_most=LIMIT)
    report.add(
        "a killed holder's slots were kept for at most, s", graves.longest, "{:.2f}", at_most=LEASE + 1
    )
    report.add(
        f"slots that no dead holder keeps, in use (from {WARM:.0f} s on, until the queue is empty)",
        used,
        "{:.1%}",
        at_least=0.95,
    )
