"""The servers of a run, the proxies before them, and what the workers are told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import redis
from psycopg.conninfo import conninfo_to_dict

from embedq.testing import FakeAPI, faults
from embedq.testing.faults import AnyFault
from embedq_worker import names
from embedq_worker.cli.session import open_broker, open_database, publish
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.valkey import Valkey
from embedq_worker.settings import Settings
from embedq_worker.store.collections import create_collection
from embedq_worker.store.migrations import apply_migrations
from tests.chaos.load import COLLECTIONS, MARKER
from tests.chaos.options import Options
from tests.support.proxy import Proxy

MODEL = "chaos"
DIMENSIONS = 64
_PENDING = ("embedq.*", names.UNACKED, f"{names.SUSPECTS}*", names.KILLERS, "unacked")
"""Keys that hold messages: queues, what is in hand, what is set apart; and what is in stock kombu's hands."""
_FAULTS: tuple[AnyFault, ...] = (
    faults.Hang(),
    faults.Reset(),
    faults.CutBody(),
    faults.Status(status=429, retry_after="1"),
    faults.Status(status=500),
    faults.Status(status=503),
    faults.WrongCount(),
    faults.ShuffledOrder(),
    faults.CutJSON(),
    faults.NotFinite(),
)


class World:
    """One installation. Workers reach Valkey and Postgres through ``broker_proxy`` and ``database_proxy``."""

    def __init__(
        self,
        valkey: Valkey,
        postgres: Postgres,
        api: FakeAPI,
        *,
        database_url: str,
        folder: Path,
        options: Options,
    ) -> None:
        self.valkey = valkey
        self.postgres = postgres
        self.api = api
        self.database_url = database_url
        self.folder = folder
        self.outages = 0
        """Times that Valkey was stopped or started."""
        self.environment: dict[str, str] = {}
        self._options = options
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.broker_proxy = stack.enter_context(Proxy(self.valkey.port))
            self.database_proxy = stack.enter_context(Proxy(_socket_of(self.database_url)))
            self.broker = redis.from_url(self.valkey.url)
            stack.callback(self.broker.close)
            self.environment = self._settings()
            self._create_collections()
            self._configure_api()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def stop_valkey(self, *, kill: bool) -> None:
        """Stop it with SIGKILL, or in order."""
        self.outages += 1
        self.broker_proxy.refuse()
        if kill:
            os.kill(self.valkey.pid, signal.SIGKILL)
        self.valkey.stop()

    def start_valkey(self) -> None:
        """Bring it back, with its data and on its port."""
        self.valkey.start()
        self.broker_proxy.accept()
        self.outages += 1

    def stop_postgres(self) -> None:
        """The immediate stop: no checkpoint, no farewell; what is committed is in the log."""
        self.database_proxy.refuse()
        os.kill(self.postgres.pid, signal.SIGQUIT)
        self.postgres.stop()

    def start_postgres(self) -> None:
        """Bring it back; it recovers from its log."""
        self.postgres.start()
        self.database_proxy.accept()

    def pending(self) -> int:
        """Messages queued, in hand, or set apart because they may have killed a worker."""
        found = [cast("list[bytes]", self.broker.keys(pattern)) for pattern in _PENDING]
        return sum(self._size(key.decode()) for keys in found for key in keys)

    def _size(self, name: str) -> int:
        match self.broker.type(name):
            case b"list":
                return self.broker.llen(name)
            case b"hash":
                return self.broker.hlen(name)
            case _:
                return 0

    def _settings(self) -> dict[str, str]:
        file = self.folder / "embedq.toml"
        file.write_text(_toml(self._tables()))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EMBEDQ_")}
        return kept | {
            "EMBEDQ_BROKER_URL": f"redis://127.0.0.1:{self.broker_proxy.port}/0",
            "EMBEDQ_DATABASE_URL": _over_tcp(self.database_url, self.database_proxy.port),
            "EMBEDQ_API_BASE_URL": self.api.base_url,
            "EMBEDQ_CONFIG": str(file),
        }

    def _tables(self) -> dict[str, Mapping[str, Any]]:
        worker = {
            "lease": 2.0,
            "read_timeout": 2.0,
            "connect_timeout": 2.0,
            "drain_time": 10.0,
            "retry_time": 5.0,
            "message_lease": self._options.lease,
        }
        model = {"dimensions": DIMENSIONS, "base64": True, "max_inputs": 32, "max_concurrency": 16}
        return {f"models.{MODEL}": model | self._options.model, "worker": worker}

    def _create_collections(self) -> None:
        settings = Settings.from_environment(self.environment)
        with open_database(settings) as connection, open_broker(settings) as broker:
            apply_migrations(connection)
            model = settings.catalogue.usable(MODEL)
            for name in COLLECTIONS:
                create_collection(connection, name=name, model=model, versions="given")
            publish(connection, broker, settings)

    def _configure_api(self) -> None:
        self.api.configure(latency=self._options.latency, dimensions=DIMENSIONS)
        self.api.inject(faults.BadText(), marker=MARKER)
        for number, fault in enumerate(_FAULTS if self._options.faults else ()):
            share = self._options.faults / len(_FAULTS)
            self.api.inject(fault, probability=share, seed=self._options.seed + number)


MakeWorld = Callable[[Options], World]
"""How the tests of the harness get a world, on servers that are there."""


@contextmanager
def own_world(folder: Path, options: Options) -> Iterator[World]:
    """A world on servers of its own, which keep what they confirmed."""
    with (
        TemporaryDirectory() as data,
        Valkey(Path(data), appendfsync="always") as valkey,
        Postgres() as postgres,
        FakeAPI() as api,
        World(valkey, postgres, api, database_url=postgres.url, folder=folder, options=options) as world,
    ):
        yield world


def _socket_of(database_url: str) -> Path:
    parts = conninfo_to_dict(database_url)
    return Path(str(parts["host"])) / f".s.PGSQL.{parts['port']}"


def _over_tcp(database_url: str, port: int) -> str:
    parts = conninfo_to_dict(database_url)
    name = quote(str(parts["dbname"]), safe="")
    return f"postgresql://{parts['user']}@127.0.0.1:{port}/{name}?sslmode=disable&gssencmode=disable"


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)
