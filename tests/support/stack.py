"""One installation for tests.

The environment that workers and commands are given, and what is asked of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import numpy as np
import psycopg
import redis
from celery import Celery
from kombu import pools

from embedq import Producer
from embedq.script import Script
from embedq.testing import FakeAPI, vector_of
from tests.support.warm import WARMTH
from tests.support.workers import Worker

MODEL = "text-embedding-3-small"
DIMENSIONS = 64

_PENDING = Script(Path(__file__).with_name("pending.lua").read_text("utf-8"))


@dataclass
class Stack:
    """Broker, database and fake API together."""

    broker_url: str
    database_url: str
    api: FakeAPI
    folder: Path
    environment: dict[str, str] = field(init=False)
    broker: redis.Redis = field(init=False)

    def __post_init__(self) -> None:
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EMBEDQ_")},
            "EMBEDQ_BROKER_URL": self.broker_url,
            "EMBEDQ_DATABASE_URL": self.database_url,
            "EMBEDQ_API_BASE_URL": self.api.base_url,
        }
        self.broker = redis.from_url(self.broker_url)

    def close(self) -> None:
        """Close the connections."""
        self.broker.close()

    def configure(self, toml: str) -> None:
        """Give workers a file of settings."""
        path = self.folder / "embedq.toml"
        path.write_text(toml)
        self.environment["EMBEDQ_CONFIG"] = str(path)

    def command(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        """Run ``embedq`` and hold its exit code; returns what it printed, errors included."""
        done = WARMTH.run(arguments, self.environment, text=stdin, timeout=50)
        assert done.returncode == code, done.stdout
        return done.stdout

    def create(
        self, collection: str, *options: str, model: str = MODEL, dimensions: int = DIMENSIONS
    ) -> None:
        """Create a collection of small vectors."""
        self.command(
            "collection", "create", collection, "--model", model, "--dimensions", str(dimensions), *options
        )

    def producer(self, **options: Any) -> Producer:
        """A producer."""
        return Producer(self.broker_url, **options)

    @contextmanager
    def client(self) -> Iterator[Celery]:
        """A stranger: an ordinary Celery application that knows the broker's URL."""
        pools.reset()  # kombu keeps a closed pool for the next application with the same URL
        client = Celery("stranger", broker=self.broker_url, set_as_current=False)
        yield client
        client.close()
        pools.reset()

    def worker(self, *arguments: str, processes: int = 1) -> Worker:
        """A worker, not started yet."""
        return Worker(self.environment, arguments, processes=processes)

    def sql(self, query: LiteralString, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query, parameters).fetchall()

    def pending(self) -> int:
        """Messages queued or in hand."""
        return int(_PENDING.run(self.broker, ["embedq:unacked"], ["embedq.*"]))

    def wait_until_done(self, timeout: float = 30) -> None:
        """Wait until nothing is queued or in hand."""
        wait_until(lambda: self.pending() == 0, timeout, lambda: f"{self.pending()} messages are pending")

    def wait_until_done_of(self, collection: str, timeout: float = 30) -> None:
        """Wait until nothing of one collection is queued, and nothing of any is in hand."""
        queues = f"embedq.{collection}*"

        def done() -> bool:
            return not _PENDING.run(self.broker, ["embedq:unacked"], [queues])

        wait_until(done, timeout, lambda: f"{collection} is not done")

    def stored(self, collection: str) -> dict[str, str]:
        """The content of each id; every vector is held against its text on the way."""
        query = f"SELECT id, content, embedding::text FROM {collection}"  # noqa: S608  # our own name
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute(query).fetchall()
        for item_id, content, embedding in rows:
            vector = np.array(embedding.strip("[]").split(","), dtype=np.float32)
            expected = vector_of(content, len(vector))
            assert np.array_equal(vector, expected), f"the vector of {item_id} is not its text's"
        return {item_id: content for item_id, content, _ in rows}


def wait_until(done: Callable[[], bool], timeout: float, state: Callable[[], str] = lambda: "") -> None:
    """Wait for something that no event tells of; fail with ``state`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline, f"not within {timeout} s: {state()}"
        time.sleep(0.01)
