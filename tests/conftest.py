"""Real servers for the tests: started once a session when first asked for, clean for each test."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from embedq.testing import FakeAPI
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.valkey import Valkey
from tests.support.databases import EMPTY, MIGRATED, Databases
from tests.support.warm import WARMTH

SESSION_MARK = "PYTEST_SESSION_MARK"


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """At the end of the session no process that it started may be running."""
    os.environ[SESSION_MARK] = secrets.token_hex(8)
    yield
    WARMTH.close()
    left = _left_running()
    for process in left:
        process.kill()
    assert not left, f"left running by the tests: {left}"


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """Also where the tests were started in the background, by a shell that has its jobs ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the caller's shell reaches a test."""
    for name in [name for name in os.environ if name.startswith("EMBEDQ_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """The session's Valkey."""
    with Valkey() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The session's Postgres, without fsync."""
    with Postgres(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def fake_api_server() -> Iterator[FakeAPI]:
    """The session's fake API."""
    with FakeAPI() as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres_server: Postgres) -> Iterator[Databases]:
    """Copies of the session's templates."""
    databases = Databases(postgres_server)
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def migrated_template(databases: Databases) -> str:
    """The name of a database with every migration applied, to copy."""
    databases.add_migrated()
    return MIGRATED


@pytest.fixture
def broker_url(valkey_server: Valkey) -> str:
    """URL of an empty Valkey database."""
    with redis.Redis.from_url(valkey_server.url, retry=Retry(NoBackoff(), 0)) as client:
        client.flushall()
    return valkey_server.url


@pytest.fixture
def postgres_url(databases: Databases) -> Iterator[str]:
    """URL of a fresh, empty database, without the extension pgvector."""
    with databases.copy(EMPTY) as url:
        yield url


@pytest.fixture
def database_url(databases: Databases, migrated_template: str) -> Iterator[str]:
    """URL of a fresh database with embedq's migrations applied."""
    with databases.copy(migrated_template) as url:
        yield url


@pytest.fixture
def fake_api(fake_api_server: FakeAPI) -> FakeAPI:
    """A fake API without settings, faults or counts of other tests."""
    fake_api_server.reset()
    return fake_api_server


def _left_running() -> list[psutil.Process]:
    """Descendants, and orphans by the mark in their environment, after a moment for those that are ending."""
    found = set(psutil.Process().children(recursive=True)) | {
        p for p in psutil.process_iter() if _is_marked(p)
    }
    _, left = psutil.wait_procs([p for p in found if not _is_helper(p)], timeout=5)
    return [p for p in left if p.status() != psutil.STATUS_ZOMBIE]


def _is_marked(process: psutil.Process) -> bool:
    try:
        marked: bool = process.environ().get(SESSION_MARK) == os.environ[SESSION_MARK]
        return marked and process.pid != os.getpid()
    except (psutil.Error, OSError):
        return False


def _is_helper(process: psutil.Process) -> bool:
    """Python's own helper of ``multiprocessing`` lives as long as the interpreter."""
    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False
