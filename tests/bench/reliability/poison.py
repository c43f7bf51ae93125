"""Messages that kill their worker among many that do not: these become dead letters, nothing else does."""

from __future__ import annotations

import base64
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.ground import Ground, ground
from tests.bench.report import Report
from tests.support.forked import ForkedWorkers
from tests.support.killer import MARKER

MODEL = "poison"
WORKERS = 4
IN_HAND = 1_024
LEASE = 2.0
KILLERS = 10
CHANGES = {
    "when taken in": "tests.support.killer:when_taken_in",
    "when embedded": "tests.support.killer:when_embedded",
}


@dataclass(frozen=True)
class Mixture:
    """Items of which some are killers."""

    items: list[dict[str, str]]
    killers: frozenset[str]
    """Their ids."""

    @property
    def innocent(self) -> frozenset[str]:
        """The ids of the others."""
        return frozenset(item["id"] for item in self.items) - self.killers


def mixture(count: int, killers: int, seed: int = 24) -> Mixture:
    """``killers`` of ``count`` items, at random places."""
    chosen = frozenset(map(str, random.Random(seed).sample(range(count), killers)))
    items = [
        {"id": str(number), "text": f"text {number}{' ' + MARKER if str(number) in chosen else ''}"}
        for number in range(count)
    ]
    return Mixture(items, chosen)


def killer_of(payload: str) -> str:
    """The id in the raw message that a killer's dead letter keeps."""
    message = json.loads(payload)
    _, arguments, _ = json.loads(base64.b64decode(message["body"]))
    (item,) = arguments["job"]["items"]
    return str(item["id"])


def run(report: Report, quick: bool) -> None:
    """Killers that die when they are taken in, and killers that die when their vector comes."""
    for moment, change in CHANGES.items():
        count, killers = (400, 2) if quick else (2_000, KILLERS)
        with ground(report) as where:
            where.configure({MODEL: {}}, message_lease=LEASE, lease=LEASE)
            where.create({"docs": MODEL})
            where.api.configure(latency=0.05)
            _work_off(report, where, moment, change, mixture(count, killers))


def _work_off(report: Report, where: Ground, moment: str, change: str, mixed: Mixture) -> None:
    for item in mixed.items:
        where.producer.enqueue("docs", id=item["id"], text=item["text"])
    began = time.monotonic()
    crew = workers(where.environment, where.folder / "log", change)
    with crew:
        stored = where.wait_until_stored("docs", len(mixed.innocent), timeout=600)
        where.wait_until_done("docs", "live", timeout=600)
        seconds, deaths = time.monotonic() - began, list(crew.deaths)
    _report_letters(report, where, moment, mixed)
    report.add(f"{moment}: innocent items stored", where.stored("docs"), at_least=len(mixed.innocent))
    report.add(f"{moment}: deaths", len(deaths))
    report.add(f"{moment}: other ends", sum(code != -signal.SIGKILL for code in deaths), at_most=0)
    report.add(f"{moment}: seconds", seconds)
    report.add(f"{moment}: texts billed twice", where.api.stats().billed_again)
    if not stored:
        report.complaints += crew.output.splitlines()[-15:]


def _report_letters(report: Report, where: Ground, moment: str, mixed: Mixture) -> None:
    letters = where.sql(
        "SELECT class, code, payload FROM embedq.dead_letter JOIN embedq.dead_letter_text USING (number)"
    )
    buried = Counter(killer_of(text) for *_, text in letters)
    wanted = len(mixed.killers)
    other_reasons = {(kind, code) for kind, code, _ in letters} - {("killer", "killed_its_worker")}
    report.add(f"{moment}: killers among {len(mixed.items)}", wanted)
    report.add(f"{moment}: killers buried", len(buried.keys() & mixed.killers), at_least=wanted)
    report.add(f"{moment}: innocent dead letters", len(buried.keys() - mixed.killers), at_most=0)
    report.add(f"{moment}: dead letters for another reason", len(other_reasons), at_most=0)
    report.add(f"{moment}: dead letters that are doubled", buried.total() - len(buried), at_most=0)


def workers(environment: Mapping[str, str], log: Path, change: str, count: int = WORKERS) -> ForkedWorkers:
    """Workers whose killers kill."""
    return ForkedWorkers(environment, count, "--in-hand", str(IN_HAND), changes=[change], log=log)
