"""A text and an API key that nothing may repeat, and a watch over every place that they could get to."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, cast

import psycopg
import redis
from celery import Celery
from click.testing import CliRunner
from psycopg import sql

from embedq.cli import main
from embedq_worker.embedded.process import free_port
from tests.support.metrics import scrape
from tests.support.stack import Stack, wait_until
from tests.support.workers import Worker

TEXT = "canary sentence 7f3e, which only the queue and the tables of texts may hold"
WORD = "canaryword7f3e"
"""A text of one word, which could pass for a name."""
KEY = "sk-canary-key-7f3e"
_TEXT_MARK = "canary sentence 7f3e"
_KEY_MARK = "canary-key-7f3e"

HOLD_TEXTS = {"public.docs", "embedq.dead_letter_text"}
"""The tables that may hold a text."""
MESSAGES = ("embedq.", "embedq:unacked")
"""What the names of Redis keys begin with whose values are messages."""
COMMANDS = (
    *("status", "status --json", "dead-letters list", "dead-letters list --json"),
    *("collection list", "limits show", "drift list"),
)
LOGS_EVERYTHING = {
    "log_error_verbosity": "default",
    "log_min_error_statement": "error",
    "log_min_duration_statement": "0",
    "log_parameter_max_length_on_error": "-1",
}
"""A server that logs what it can; the first two are Postgres' defaults."""


def marks(mark: str) -> list[str]:
    """A mark, and what is left of it in base64, at each of three offsets."""
    padded = [base64.b64encode(b"\0" * offset + mark.encode()).decode() for offset in range(3)]
    return [mark, *(each[4:-4] for each in padded)]


class Watch:
    """What was seen in each place during a test. ``hits`` are the places in which a canary was."""

    def __init__(self, stack: Stack, server_log: Path) -> None:
        self.stack = stack
        self.events: list[dict[str, Any]] = []
        self._log = server_log
        self._log_start = server_log.stat().st_size
        self._seen: list[tuple[str, str, bool]] = []

    def see(self, place: str, what: object, *, may_hold_text: bool = False) -> None:
        """Remember what was seen."""
        self._seen.append((place, what if isinstance(what, str) else repr(what), may_hold_text))

    def hits(self) -> list[str]:
        """Where a canary was seen, now and before."""
        self._look()
        return sorted(set(self._found()))

    @contextmanager
    def worker(self, *arguments: str, change: str | None = None) -> Iterator[Worker]:
        """A worker that says all it can, and a monitor that receives all its events."""
        said = ["--loglevel", "DEBUG", "--events", *arguments]
        port = free_port()
        self.stack.environment["EMBEDQ_METRICS_PORT"] = str(port)
        with self.stack.client() as client, self._monitor(client):
            with Worker(self.stack.environment, said, change=change) as worker:
                yield worker
                if worker.is_alive:
                    self.see("the metrics", scrape(port).text)
                self._look()
            self.see("the worker's output", worker.output)

    def inspect(self, client: Celery, *task_ids: str) -> None:
        """Ask a worker everything that Celery can ask it."""
        asking = client.control.inspect(timeout=5, limit=1)
        for question in ("active", "reserved", "scheduled", "revoked", "stats", "conf", "report"):
            answer = getattr(asking, question)()
            assert answer, f"nobody answers {question}"
            self.see(f"inspect {question}", answer)
        self.see("inspect query_task", asking.query_task(list(task_ids)))

    def command(self, command: str) -> str:
        """What a command of ``embedq`` prints. In this process: starting another takes half a second."""
        done = CliRunner().invoke(main, command.split(), env=self.stack.environment)
        assert done.exit_code == 0, done.output
        return done.output

    def commands(self) -> None:
        """Run the commands that show how things stand."""
        for command in COMMANDS:
            self.see(f"embedq {command}", self.command(command))

    @contextmanager
    def _monitor(self, client: Celery) -> Iterator[None]:
        with client.connection_for_read() as connection:
            receiver = client.events.Receiver(connection, handlers={"*": self.events.append})
            reading = Thread(target=_capture, args=[receiver], daemon=True)
            reading.start()
            wait_until(lambda: self.stack.broker.pubsub_numpat() >= 1, 10)
            yield
            receiver.should_stop = True
            reading.join(20)

    def _look(self) -> None:
        self.see("the server's log", self._log.read_bytes()[self._log_start :].decode(errors="replace"))
        self.see("events", self.events)
        self._look_at_redis()
        self._look_at_tables()

    def _look_at_redis(self) -> None:
        for key in (name.decode() for name in self.stack.broker.scan_iter() if isinstance(name, bytes)):
            value = value_of(self.stack.broker, key)
            is_message = key.startswith(MESSAGES)
            self.see(f"Redis key {key}", f"{key} {value}", may_hold_text=is_message)

    def _look_at_tables(self) -> None:
        with psycopg.connect(self.stack.database_url) as connection:
            tables = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables"
                " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            for schema, table in tables:
                name = f"{schema}.{table}"
                query = sql.SQL("SELECT each::text FROM {} AS each").format(sql.Identifier(schema, table))
                rows = connection.execute(query).fetchall()
                self.see(f"table {name}", rows, may_hold_text=name in HOLD_TEXTS)
            running = connection.execute("SELECT query FROM pg_stat_activity").fetchall()
            self.see("statements of the database's connections", running)

    def _found(self) -> Iterator[str]:
        for place, what, may_hold_text in self._seen:
            if any(mark in what for mark in marks(_KEY_MARK)):
                yield f"the key in {place}"
            if not may_hold_text and any(mark in what for mark in (*marks(_TEXT_MARK), *marks(WORD))):
                yield f"the text in {place}"


def without_body(message: bytes | str) -> str:
    """A message of a queue but for its body: what it tells a broker's monitor."""
    envelope = json.loads(message)
    del envelope["body"]
    return json.dumps(envelope)


def value_of(broker: redis.Redis, key: str) -> object:
    """What a Redis key holds, whatever its type."""
    read: dict[bytes, Callable[[], object]] = {
        b"string": lambda: broker.get(key),
        b"list": lambda: broker.lrange(key, 0, -1),
        b"hash": lambda: broker.hgetall(key),
        b"set": lambda: broker.smembers(key),
        b"zset": lambda: broker.zrange(key, 0, -1, withscores=True),
        b"none": lambda: None,
    }
    return read[cast("bytes", broker.type(key))]()


def log_everything(database_url: str) -> None:
    """Have the server log all that it can of one database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        for setting, value in LOGS_EVERYTHING.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            connection.execute(statement.format(name, sql.Identifier(setting), sql.Literal(value)))


def _capture(receiver: Any) -> None:
    """Receive events until told to stop; if a test fails before that, end quietly."""
    with suppress(TimeoutError):
        receiver.capture(limit=None, timeout=50, wakeup=False)
