"""``embedq status`` on real servers: what it says, what it costs them, and that it goes on without them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import pytest
import redis
from psycopg import sql

from embedq import Item, Producer
from embedq.broker import Broker
from embedq.contract import queue_name
from embedq_worker.catalogue import load_catalogue
from embedq_worker.cli.snapshot import take
from embedq_worker.cli.status_fields import Status
from embedq_worker.embedded.valkey import Valkey
from embedq_worker.settings import Settings
from embedq_worker.store.collections import create_collection, drop_collection
from embedq_worker.store.fleet.reports import read_fleet
from embedq_worker.store.moving.successor import start
from embedq_worker.store.postgres.connections import Connection, connect
from tests.bench.status.town import SMALL, build
from tests.support.indexed import fill
from tests.support.stack import MODEL, Stack, wait_until

CATALOGUE = load_catalogue()


@pytest.fixture
def settings(broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of these servers."""
    monkeypatch.setenv("EMBEDQ_BROKER_URL", broker_url)
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)
    return Settings.from_environment()


def look(connection: Connection, settings: Settings) -> Status:
    """The status now."""
    broker = Broker(settings.broker_url)
    try:
        return take(connection, broker, settings).status
    finally:
        broker.close()


def statements(connection: Connection, settings: Settings) -> int:
    """How many statements a look takes, by what libpq sends."""
    with tempfile.TemporaryFile("w+") as trace:
        connection.pgconn.trace(trace.fileno())
        look(connection, settings)
        connection.pgconn.untrace()
        trace.seek(0)
        return sum(line.split("\t")[3] in ("Query", "Bind") for line in trace if line.count("\t") >= 3)


def read_until(output: IO[str], wanted: str) -> None:
    """Read lines until one has ``wanted`` in it; the test's own time-out ends the waiting."""
    for line in output:
        if wanted in line:
            return
    raise AssertionError(f"{wanted!r} was not said")


def test_it_costs_the_servers_little(connection: Connection, client: redis.Redis, settings: Settings) -> None:
    """Lengths and reports, and no scan; as many statements for many collections as for few."""
    queued = build(connection, client, SMALL)
    client.config_resetstat()
    status = look(connection, settings)
    used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert "llen" in used
    assert not used & {"scan", "hscan", "sscan", "zscan", "keys", "lrange", "hvals", "hkeys"}
    assert sum(sum(each.queued.values()) for each in status.collections) == queued
    (first, *_) = status.collections
    assert (first.in_hand, first.pending_by) == (20 * SMALL.workers, "pace")
    assert first.pending_items == 12 * (SMALL.longest + first.in_hand)
    assert first.eta == pytest.approx(first.pending_items / first.items_per_second, rel=0.01)
    oldest = first.oldest["live"]
    assert oldest is not None
    assert 3_600 <= oldest < 3_700
    assert len(status.workers) == SMALL.workers

    many = statements(connection, settings)
    for each in status.collections[1:]:
        drop_collection(connection, each.name)
    assert 0 < statements(connection, settings) == many


def test_without_any_pace_the_oldest_message_speaks(
    connection: Connection, client: redis.Redis, settings: Settings
) -> None:
    """Nothing was done lately: its count of items is the best that is known; of a stranger's, nothing is."""
    for name in ("docs", "notes"):
        create_collection(connection, name=name, model=CATALOGUE.usable(MODEL), dimensions=2)
    with Producer(settings.broker_url, check=False) as producer:
        producer.enqueue_many("docs", [Item(id=str(number), text="text") for number in range(10)])
    client.lpush(queue_name("notes"), "a stranger's")
    docs, notes = look(connection, settings).collections
    assert (docs.pending_items, docs.pending_by, docs.eta) == (10, "oldest", None)
    assert docs.coverage == 0
    assert (notes.pending_items, notes.coverage) == (None, None)


def test_a_locked_table_holds_up_nobody(
    connection: Connection, database_url: str, settings: Settings
) -> None:
    """Its rows are estimated then."""
    docs = create_collection(connection, name="docs", model=CATALOGUE.usable(MODEL), dimensions=2)
    fill(connection, docs, 50)
    with connect(database_url) as other, other.transaction():
        other.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        (seen,) = look(connection, settings).collections
    assert seen.rows_are_estimated
    assert seen.rows is not None


def test_a_move_is_shown(connection: Connection, settings: Settings) -> None:
    """How much of it has the next model's vectors."""
    docs = create_collection(connection, name="docs", model=CATALOGUE.usable(MODEL), dimensions=2)
    fill(connection, docs, 8)
    moved = start(connection, "docs", CATALOGUE.usable("text-embedding-3-large"), 3)
    assert moved.shadow is not None
    update = sql.SQL("UPDATE docs SET {} = '[1,2,3]' WHERE id <= '6'")
    connection.execute(update.format(sql.Identifier(moved.shadow.column_name)))
    (seen,) = look(connection, settings).collections
    assert seen.move is not None
    assert (seen.move.model, seen.move.state) == ("text-embedding-3-large", "next")
    assert (seen.move.unfilled, seen.move.filled, seen.coverage) == (2, 0.75, 0.75)
    assert len(look(connection, settings).models) == 2


def test_a_real_worker(stack: Stack) -> None:
    """What it has done, at which rate, for how much; and nothing is left of it when it has stopped."""
    stack.create("docs")
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [Item(id=str(number), text=f"text {number}") for number in range(100)])
        stack.wait_until_done()
        wait_until(lambda: sum(each.items for each in read_fleet(stack.broker).reports) == 100, 10)
        wait_until(lambda: bool(stack.sql("SELECT FROM embedq.usage")), 10)
        status = json.loads(stack.command("status", "--json"))
        (docs,), (worker,) = status["collections"], status["workers"]
        assert (worker["items"], worker["messages_in_hand"]) == (100, 0)
        assert docs["rows"] == 100
        assert (docs["pending_items"], docs["coverage"]) == (0, 1.0)
        assert docs["items_per_second"] > 0
        assert docs["tokens_today"] > 0
        assert 0 < docs["cost_today"] < 1  # a number, as in the other commands
    assert json.loads(stack.command("status", "--json"))["workers"] == []


def test_a_pipe_gets_whole_lines(stack: Stack) -> None:
    """Without escape codes, also where names are long."""
    name = "a_name_of_48_characters_as_long_as_one_can_be_xx"
    stack.create(name)
    said = stack.command("status")
    assert "\x1b" not in said
    assert any(line.startswith(name) and MODEL in line and "$0.00" in line for line in said.splitlines())


def test_watching_goes_on_without_redis(stack: Stack, tmp_path: Path) -> None:
    """It says what is away, shows what it saw last, and Ctrl-C ends it well."""
    stack.create("docs")
    with Valkey(folder=tmp_path / "valkey") as server:
        watching = subprocess.Popen(
            [sys.executable, "-m", "embedq.cli", "status", "--watch"],
            env={**stack.environment, "EMBEDQ_BROKER_URL": server.url},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watching.stdout is not None
        read_until(watching.stdout, "1 collection;")
    read_until(watching.stdout, "! Redis at")
    read_until(watching.stdout, "1 collection;")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 0
    watching.stdout.close()
