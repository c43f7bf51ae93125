"""What the integration tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from embedq.testing import FakeAPI
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.filled import MODEL as SMALL
from tests.support.producers import KINDS, Kind
from tests.support.queued import register
from tests.support.stack import Stack
from tests.support.watching import fill, make_watched, settle_all


@pytest.fixture
def stack(broker_url: str, database_url: str, fake_api: FakeAPI, tmp_path: Path) -> Iterator[Stack]:
    """Real servers and the fake API, empty."""
    stack = Stack(broker_url, database_url, fake_api, tmp_path)
    yield stack
    stack.close()


@pytest.fixture
def client(broker_url: str) -> Iterator[redis.Redis]:
    """A client of an empty broker."""
    with redis.from_url(broker_url) as opened:
        yield opened


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection to a migrated database."""
    with connect(database_url) as opened:
        yield opened


@pytest.fixture
def products(connection: Connection) -> Connection:
    """The same, where there is an empty table of products to be held against a collection."""
    connection.execute("CREATE TABLE product (sku text, name text, about jsonb)")
    return connection


@pytest.fixture
def plain_docs(connection: Connection) -> Collection:
    """An empty collection ``docs`` in it, of three dimensions."""
    return create_collection(connection, name="docs", model=SMALL)


@pytest.fixture
def command_line(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line on these servers."""
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)
    monkeypatch.setenv("EMBEDQ_BROKER_URL", broker_url)
    return CliRunner()


@pytest.fixture
def owner(connection: Connection) -> Connection:
    """The same, of whoever made the schema, beside other roles."""
    return connection


@pytest.fixture(params=KINDS, ids=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """``Producer``, and ``AsyncProducer`` behind the same methods."""
    made: Kind = request.param
    return made


@pytest.fixture
def redis_of_docs(broker_url: str) -> Iterator[redis.Redis]:
    """A client of the broker, where ``docs`` has versions of the clock and ``rows`` the caller's."""
    with redis.Redis.from_url(broker_url) as connection:
        register(connection, docs="clock", rows="given")
        yield connection


@pytest.fixture
def environment(broker_url: str, tmp_path: Path) -> dict[str, str]:
    """A command's environment, with the broker in it and checkpoints in a folder of the test's."""
    ours = {
        "EMBEDQ_BROKER_URL": broker_url,
        "EMBEDQ_KEY_PREFIX": "",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    return {**os.environ, "COLUMNS": "100", **ours}


@pytest.fixture
def watched(connection: Connection) -> Connection:
    """A database with a watched table of four rows, one without a text; it is filled, and settled."""
    make_watched(connection)
    connection.execute(
        "INSERT INTO product VALUES "
        "('a', 'A', '1', 'en'), ('b', 'B', '2', 'en'), ('c', 'C', '3', 'de'), ('z', NULL, '26', NULL)"
    )
    while fill(connection, 100):
        pass
    settle_all(connection)
    return connection
