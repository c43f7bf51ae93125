"""What the scenarios lie on: servers with nothing in them, models, collections, backlogs, workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, LiteralString

import psutil
import psycopg
import redis

from embedq import Producer
from embedq.contract import Lane, Versions, queue_name
from embedq.testing import FakeAPI
from embedq.testing.control import ModelStats
from embedq_worker.cli.session import open_broker, open_database, publish
from embedq_worker.settings import Settings
from embedq_worker.store.collections import create_collection
from tests.bench.bed import Bed, bed
from tests.bench.report import Report
from tests.support.workers import Worker

DIMENSIONS = 8
"""Small vectors: what is measured is the limiter, on few cores."""
_BAD = (": WARNING/", ": ERROR/", ": CRITICAL/", "Traceback", "ended with code")
_MOST_LINES = 40

Table = Mapping[str, str | int | float]


class Crew(Worker):
    """Worker processes; what they complain of goes into the report."""

    def __init__(self, where: Ground, arguments: Iterable[str], processes: int) -> None:
        super().__init__(where.environment, [*arguments], processes=processes)
        self._report = where.report

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = psutil.Process(self.pid).children(recursive=True)
        try:
            self.stop(timeout=30)
        except TimeoutExpired:
            self._report.fail("the workers stop within 30 s", "no")
            for process in family:
                process.kill()
            self.kill()
        complaints = [line.rstrip() for line in self.lines if any(mark in line for mark in _BAD)]
        self._report.complaints += complaints[:_MOST_LINES]
        if len(complaints) > _MOST_LINES:
            self._report.complaints.append(f"... and {len(complaints) - _MOST_LINES} more")

    def children(self) -> list[psutil.Process]:
        """The worker processes under the supervisor."""
        return [each for each in psutil.Process(self.pid).children() if each.is_running()]


class Ground:
    """One installation with nothing in it."""

    def __init__(self, where: Bed, folder: Path, report: Report) -> None:
        self.report = report
        self.api: FakeAPI = where.api
        self.broker: redis.Redis = where.broker
        self.environment = where.environment
        self.database_url = where.database_url
        self.folder = folder
        self._filled: dict[str, int] = {}
        self.producer = Producer(where.environment["EMBEDQ_BROKER_URL"], check=False)

    def reset_api(self) -> None:
        """The API without settings, faults and counts."""
        self.api.reset()
        self.api.configure(dimensions=DIMENSIONS)

    def configure(self, models: Mapping[str, Table], **worker: float) -> None:
        """Give the workers a file with these models, beside what a model of small vectors needs."""
        tables: dict[str, Table] = {'models."' + name + '"': _model(table) for name, table in models.items()}
        tables["worker"] = {"drain_time": 2.0, **worker}
        lines = []
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""]
        file = self.folder / "embedq.toml"
        file.write_text("\n".join(lines))
        self.environment["EMBEDQ_CONFIG"] = str(file)

    def create(self, collections: Mapping[str, str], versions: Versions = "clock") -> None:
        """Create collections, each with its model."""
        settings = Settings.from_environment(self.environment)
        with open_database(settings) as connection, open_broker(settings) as broker:
            for name, model in collections.items():
                create_collection(
                    connection, name=name, model=settings.catalogue.usable(model), versions=versions
                )
            publish(connection, broker, settings)

    def fill(
        self,
        collection: str,
        texts: Iterable[str],
        *,
        lane: Lane = "bulk",
        a_message: int = 256,
        start: str = "",
    ) -> int:
        """Enqueue texts, so many a message, with ids that start with ``start``; returns how many."""
        items = ({"id": f"{start}{number}", "text": text} for number, text in enumerate(texts))
        count = 0
        if a_message == 256:
            count = self.producer.enqueue_many(collection, items, lane)
        else:
            while part := list(islice(items, a_message)):
                count += self.producer.enqueue_many(collection, part, lane)
        self._filled[collection] = self._filled.get(collection, 0) + count
        return count

    def workers(self, processes: int, *arguments: str) -> Crew:
        """Worker processes, not started yet."""
        return Crew(self, arguments, processes)

    def queued(self, collection: str, lane: Lane = "bulk") -> int:
        """Messages in a queue."""
        return int(self.broker.llen(queue_name(collection, lane)))

    def in_hand(self) -> int:
        """Messages in the hands of workers, dead ones' too."""
        return int(self.broker.hlen("embedq:unacked"))

    def stored(self, collection: str) -> int:
        """Rows of a collection."""
        return int(self.sql(f"SELECT count(*) FROM {collection}")[0][0])  # noqa: S608  # our own name

    def sql(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query).fetchall()

    def seen(self, model: str) -> ModelStats:
        """What the API has counted of a model."""
        return self.api.stats().models.get(model, ModelStats())

    def check_backlog(self, collection: str, model: str) -> None:
        """Say so if a backlog that was to last did not: the figures are of a fleet without work then."""
        if self.seen(model).texts >= self._filled[collection]:
            self.report.fail(f"the backlog of {collection} lasts", "no: enqueue more")

    def wait_until_done(self, collection: str, lane: Lane = "bulk", timeout: float = 300) -> float:
        """Wait until nothing is queued or in hand; returns the time on the monotonic clock."""
        deadline = time.monotonic() + timeout
        while left := self.queued(collection, lane) + self.in_hand():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} messages left")
            time.sleep(0.05)
        return time.monotonic()

    def wait_until_stored(self, collection: str, count: int, timeout: float) -> bool:
        """Whether so many rows are there within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while (stored := self.stored(collection)) < count and time.monotonic() < deadline:
            time.sleep(0.2)
        return stored >= count


@contextmanager
def ground(report: Report) -> Iterator[Ground]:
    """Start everything anew, and stop it afterwards."""
    with bed() as where, TemporaryDirectory() as folder:
        made = Ground(where, Path(folder), report)
        made.reset_api()
        try:
            yield made
        finally:
            made.producer.close()


def _model(table: Table) -> Table:
    return {"dimensions": DIMENSIONS, "max_inputs": 256, "base64": True, **table}
