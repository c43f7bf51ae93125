"""SIGKILLs at random moments through the transport alone; and through kombu's own, which loses messages.

The workers are real ones over the real transport, but for what they do with a job: they note its ids in a
file. So a kill hits fetching and acknowledging and nothing else.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.bench.ground import Ground, ground
from tests.bench.reliability.feeder import Feeder
from tests.bench.report import Report
from tests.support.forked import ForkedWorkers
from tests.support.noting import FILE_VARIABLE, Notes
from tests.support.stock import VISIBILITY_VARIABLE

MODEL = "kills"
NOTE_ONLY = "tests.support.noting:note_only"
STOCK = "tests.support.stock:use"
WORKERS = 3
RATE = 1_000
"""Messages a second that are enqueued."""
WANTED_RATE = 500
"""Messages a second that have to be handled meanwhile."""
PAUSE = (0.1, 0.9)
"""Seconds between two kills, at random in between."""
LEASE = 10.0
"""Seconds after which a dead worker's messages are taken over; kombu's time-out likewise."""
_GIVE_UP = 60.0
"""Seconds without a worker that is worth killing."""
_SETTLED = 3.0
"""Seconds for which nothing is queued or in hand: what is missing then is lost."""


@dataclass(frozen=True)
class Toll:
    """What a run under kills came to; ``lost`` are messages that were not handled and are nowhere."""

    kills: int
    other_ends: int
    sent: int
    rate: float
    """Messages a second until the last kill."""
    lost: int
    waiting: int
    """Messages that were not handled, but are still queued or recorded when patience ends."""
    twice: int
    take_over: float
    """Seconds from the last kill until everything was handled."""


@dataclass(frozen=True)
class Field:
    """Where the workers are killed: a broker with an empty queue of ``docs``, and room for two files."""

    broker: redis.Redis
    environment: Mapping[str, str]
    folder: Path

    def pending(self) -> int:
        """Messages queued, in hand, or under suspicion."""
        return int(self.broker.llen("embedq.docs") + self.broker.hlen("embedq:unacked"))

    def endure(self, kills: int, *changes: str, workers: int = WORKERS, patience: float = 120.0) -> Toll:
        """Feed workers with ``changes``, kill them so many times, and wait for what the dead held."""
        environment = {**self.environment, FILE_VARIABLE: str(self.folder / "notes")}
        notes = Notes(self.folder / "notes")
        crew = ForkedWorkers(
            environment, workers, "--loglevel", "WARNING", changes=changes, log=self.folder / "log"
        )
        feeder = Feeder(self.broker, "docs", RATE)
        with crew:
            with feeder:
                started = time.monotonic()
                _kill_again_and_again(crew, notes, kills)
                last_kill = time.monotonic()
            handled = notes.counts.total()
            _wait(lambda: self._is_over(notes, feeder.sent), patience)
            take_over = time.monotonic() - last_kill
            deaths = list(crew.deaths)
        notes.close()
        waiting, missing = self.pending(), feeder.sent - len(notes.counts)
        return Toll(
            kills=deaths.count(-signal.SIGKILL),
            other_ends=sum(code != -signal.SIGKILL for code in deaths),
            sent=feeder.sent,
            rate=handled / (last_kill - started),
            lost=max(0, missing - waiting),
            waiting=min(missing, waiting),
            twice=sum(count > 1 for count in notes.counts.values()),
            take_over=take_over,
        )

    def _is_over(self, notes: Notes, sent: int) -> bool:
        notes.read()
        if len(notes.counts) >= sent:
            return True
        until = time.monotonic() + _SETTLED
        while self.pending() == 0:
            if time.monotonic() > until:
                notes.read()
                return True
            time.sleep(0.05)
        return False


def _kill_again_and_again(crew: ForkedWorkers, notes: Notes, kills: int) -> None:
    """Kill a random worker among those that have handled something, at random moments."""
    chance = random.Random(20)
    for number in range(1, kills + 1):
        crew.signal(_victim(crew, notes, chance), signal.SIGKILL)
        crew.wait_for_deaths(number, timeout=10)


def _victim(crew: ForkedWorkers, notes: Notes, chance: random.Random) -> int:
    """A worker that has handled something, after a pause."""
    deadline = time.monotonic() + _GIVE_UP
    while time.monotonic() < deadline:
        time.sleep(chance.uniform(*PAUSE))
        notes.read()
        if at_work := [pid for pid in crew.pids if pid in notes.writers]:
            return chance.choice(at_work)
    raise TimeoutError(f"no worker handles anything:\n{crew.output[-2000:]}")


def _wait(done: Callable[[], bool], patience: float) -> None:
    deadline = time.monotonic() + patience
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)


def run(report: Report, quick: bool) -> None:
    """Our transport, then kombu's."""
    kills, stock_kills = (40, 20) if quick else (1_000, 60)
    with ground(report) as where:
        ours = _field(where, "ours").endure(kills, NOTE_ONLY)
        dead = where.sql("SELECT count(*) FROM embedq.dead_letter")[0][0]
    report.add("kills", ours.kills, at_least=kills)
    report.add("messages", ours.sent)
    report.add("messages a second under kills", ours.rate, at_least=WANTED_RATE)
    report.add("messages lost", ours.lost, at_most=0)
    report.add("messages that still wait", ours.waiting, at_most=0)
    report.add("messages handled twice", ours.twice)
    report.add("dead letters", dead, at_most=0)
    report.add("workers that ended otherwise", ours.other_ends, at_most=0)
    report.add("from the last kill until everything was handled, s", ours.take_over, "{:.1f}")
    with ground(report) as where:
        where.environment[VISIBILITY_VARIABLE] = str(LEASE)
        stock = _field(where, "stock").endure(stock_kills, NOTE_ONLY, STOCK)
    report.add("stock transport: messages a second under kills", stock.rate)
    report.add("stock transport: messages lost", stock.lost, at_least=1)
    report.add("stock transport: messages lost a kill", stock.lost / stock.kills, "{:.2f}")


def _field(where: Ground, name: str) -> Field:
    where.configure({MODEL: {}}, message_lease=LEASE)
    where.create({"docs": MODEL})
    folder = where.folder / name
    folder.mkdir()
    return Field(where.broker, where.environment, folder)
