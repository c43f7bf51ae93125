"""The bed that every benchmark lies on: real servers, the fake API in its own process, one collection."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import psycopg
import redis

from embedq.contract import queue_name
from embedq.testing import FakeAPI
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.valkey import Valkey

MODEL = "text-embedding-3-small"
DIMENSIONS = 1536
LATENCY = 0.1
LATENCY_PER_TEXT = 0.0005


@dataclass
class Bed:
    """Servers, and the environment that workers and commands are given."""

    environment: dict[str, str]
    broker: redis.Redis
    api: FakeAPI
    database_url: str

    def command(self, *arguments: str) -> str:
        """Run ``embedq`` and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "embedq.cli", *arguments],
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def create(self, collection: str) -> None:
        """Create a collection."""
        self.command("collection", "create", collection, "--model", MODEL)

    def drop(self, collection: str) -> None:
        """Drop a collection."""
        self.command("collection", "drop", collection, "--yes", "--purge")

    def rows(self, collection: str) -> int:
        """Rows of a collection."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(f"SELECT count(*) FROM {collection}").fetchone()  # noqa: S608  # our own name
            assert row is not None
            return int(row[0])

    def wait_until_done(self, collection: str, lane: str = "live", timeout: float = 300) -> float:
        """Wait until nothing is queued or in hand; returns the time on the monotonic clock."""
        deadline = time.monotonic() + timeout
        queue = queue_name(collection, lane)  # type: ignore[arg-type]  # a lane
        while self.broker.llen(queue) or self.broker.hlen("embedq:unacked"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.broker.llen(queue)} messages left")
            time.sleep(0.02)
        return time.monotonic()


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


@contextlib.contextmanager
def bed() -> Iterator[Bed]:
    """Start the servers, migrate, and stop them afterwards."""
    with Valkey() as valkey, Postgres() as postgres, FakeAPI() as api:
        api.configure(latency=LATENCY, latency_per_text=LATENCY_PER_TEXT, dimensions=DIMENSIONS)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EMBEDQ_")},
            "EMBEDQ_BROKER_URL": valkey.url,
            "EMBEDQ_DATABASE_URL": postgres.url,
            "EMBEDQ_API_BASE_URL": api.base_url,
        }
        made = Bed(environment, redis.from_url(valkey.url), api, postgres.url)
        made.command("migrate")
        yield made
        made.broker.close()
