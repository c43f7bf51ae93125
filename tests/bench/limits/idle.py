"""One worker process with fifty collections and nothing to do: the commands that it sends to Redis."""

from __future__ import annotations

import time
from collections import Counter

import redis

from tests.bench.ground import ground
from tests.bench.report import Report

COLLECTIONS = 50
MODELS = 3
ALLOWED = 50


def run(report: Report, quick: bool) -> None:
    """Listen with MONITOR; commands inside scripts do not count."""
    seconds = 4.0 if quick else 10.0
    with ground(report) as where:
        where.configure({f"m{number}": {} for number in range(MODELS)})
        where.create({f"docs_{number}": f"m{number % MODELS}" for number in range(COLLECTIONS)})
        with where.workers(1):
            time.sleep(5)
            commands = _listen(where.environment["EMBEDQ_BROKER_URL"], seconds)
        report.add("top-level commands a second", sum(commands.values()) / seconds, "{:.1f}", at_most=ALLOWED)
        for name, times in commands.most_common(4):
            report.add(f"of them {name}", times / seconds, "{:.1f}")


def _listen(url: str, seconds: float) -> Counter[str]:
    commands: Counter[str] = Counter()
    with redis.Redis.from_url(url) as client, client.monitor() as monitor:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            heard = monitor.next_command()
            if heard["client_type"] != "lua":
                commands[heard["command"].split(" ")[0].upper()] += 1
    return commands
