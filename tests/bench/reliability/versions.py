"""Shuffled and repeated versions of the same ids, over workers that are stopped for twice their lease.

A stopped worker wakes with calls and writes under way that others have done since.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import psutil
import psycopg

from embedq.testing import vector_of
from tests.bench.ground import DIMENSIONS, ground
from tests.bench.report import Report
from tests.bench.sampler import Sampler

MODEL = "versions"
WORKERS = 4
VERSIONS = 40
"""An id's items have versions from 1 to this at random: some come twice, some not at all."""
LEASE = 5.0
_PAUSE = 1.0
_GIVE_UP = 900.0


@dataclass(frozen=True)
class Write:
    """One item. ``text`` is None for a delete."""

    id: str
    version: int
    text: str | None

    @property
    def order(self) -> tuple[int, bytes]:
        """Of two writes of an id the one with the higher order stays, whatever came first."""
        return self.version, b"" if self.text is None else sha256(self.text.encode()).digest()

    def item(self) -> dict[str, object]:
        """What the producer is given."""
        what: dict[str, object] = {"deleted": True} if self.text is None else {"text": self.text}
        return {"id": self.id, "version": self.version, **what}


def shuffled(ids: int, each: int, seed: int = 22) -> list[Write]:
    """``each`` writes of every id in random order: equal versions with other texts, repeats, deletes."""
    chance = random.Random(seed)
    writes = [_write(chance, number) for number in range(ids) for _ in range(each)]
    chance.shuffle(writes)
    return writes


def _write(chance: random.Random, number: int) -> Write:
    version = chance.randint(1, VERSIONS)
    kind = chance.choice(("a", "a", "b", None))
    return Write(str(number), version, kind and f"{number} v{version}{kind}")


def expected(writes: Iterable[Write]) -> dict[str, Write]:
    """What has to be stored in the end."""
    last: dict[str, Write] = {}
    for write in writes:
        known = last.get(write.id)
        if known is None or write.order > known.order:
            last[write.id] = write
    return last


@dataclass(frozen=True)
class Differences:
    """Rows that are not as they have to be, counted."""

    stale: int
    """A row of another version or text than the last, or one that had to be deleted."""
    missing: int
    wrong_vector: int


def compare(database_url: str, collection: str, last: dict[str, Write]) -> Differences:
    """Hold every row against what has to be stored."""
    stale = wrong_vector = 0
    missing = {write.id for write in last.values() if write.text is not None}
    for item_id, version, content, embedding in _rows(database_url, collection):
        missing.discard(item_id)
        stale += (version, content) != (last[item_id].version, last[item_id].text)
        wrong_vector += not np.array_equal(
            np.array(embedding.strip("[]").split(","), dtype=np.float32), vector_of(content, DIMENSIONS)
        )
    return Differences(stale, len(missing), wrong_vector)


def _rows(database_url: str, collection: str) -> Iterator[tuple[str, int, str, str]]:
    query = f"SELECT id, version, content, embedding::text FROM {collection}"  # noqa: S608  # our own name
    with psycopg.connect(database_url) as connection:
        yield from connection.execute(query.encode())


class Stopper(Sampler):
    """Stops one process after the other with SIGSTOP for ``seconds``, for the length of a ``with`` block."""

    def __init__(self, processes: Callable[[], Sequence[psutil.Process]], seconds: float) -> None:
        super().__init__(_PAUSE, self._stop_one)
        self.stops = 0
        self._processes = processes
        self._seconds = seconds
        self._chance = random.Random(23)

    def _stop_one(self) -> None:
        process = self._chance.choice(self._processes())
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(self._seconds)
        finally:
            process.send_signal(signal.SIGCONT)
        self.stops += 1


def run(report: Report, quick: bool) -> None:
    """Work off all the writes."""
    writes = shuffled(500, 20) if quick else shuffled(10_000, 50)
    lease = 2.0 if quick else LEASE
    last = expected(writes)
    with ground(report) as where:
        where.configure({MODEL: {"max_inputs": 64}}, message_lease=lease)
        where.create({"docs": MODEL}, versions="given")
        where.api.configure(latency=0.1)
        where.producer.enqueue_many("docs", (write.item() for write in writes), lane="bulk")
        began = time.monotonic()
        with where.workers(WORKERS) as crew:
            with Stopper(crew.children, 2 * lease) as stopper:
                where.wait_until_done("docs", timeout=_GIVE_UP)
            ended = where.wait_until_done("docs", timeout=_GIVE_UP)
        found = compare(where.database_url, "docs", last)
        billed_again = where.api.stats().billed_again
    report.add("items", len(writes))
    report.add("items a second", len(writes) / (ended - began))
    report.add(f"times that a worker was stopped for {2 * lease:.0f} s", stopper.stops, at_least=1)
    report.add("rows that are stale", found.stale, at_most=0)
    report.add("rows that are missing", found.missing, at_most=0)
    report.add("vectors on the wrong text", found.wrong_vector, at_most=0)
    report.add("texts billed twice", billed_again)
