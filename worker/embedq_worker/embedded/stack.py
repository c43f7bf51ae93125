"""Postgres, Valkey and the local embeddings server together, and the settings that point embedq at them."""

from __future__ import annotations

import fcntl
import json
import secrets
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TextIO

from embedq_worker.embedded import local_api
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.embedded.process import (
    EmbeddedError,
    ServerProcess,
    private_folder,
    remove_folder,
)
from embedq_worker.embedded.valkey import Valkey

_CONFIGURATION = f"""\
# Models that the catalogue does not have. This one is served by `embedq local-api`.
[models."{local_api.MODEL}"]
family = "plain"
dimensions = {local_api.DIMENSIONS}
max_inputs = 256
base64 = true
unit_length = true
max_concurrency = 4
"""


class LocalAPI:
    """The local embeddings server in a process of its own, on a random port of 127.0.0.1.

    It loads its model while other servers start: ``start`` returns at once, ``wait`` when it listens.
    """

    def __init__(self) -> None:
        self.base_url = ""
        self._folder: Path | None = None
        self._server: ServerProcess | None = None

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._server is not None and self._server.running

    def start(self) -> None:
        """Start the server."""
        self._folder = private_folder("embedq-local-api-")
        try:
            self._server = ServerProcess(
                "the local embeddings server",
                [sys.executable, "-P", "-m", local_api.__name__, "--port", "0"],
                log=self._folder / "local-api.log",
                stop_signal=signal.SIGTERM,
                temporary=self._folder,
            )
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Wait until ``base_url`` answers. Raises ``EmbeddedError`` with the end of its log if it ends."""
        if self._server is None:
            raise EmbeddedError("the local embeddings server is not running: start it first")
        self._server.wait_until(self._announced)

    def close(self) -> None:
        """Stop the server and remove its log."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._folder is not None:
            remove_folder(self._folder)
            self._folder = None

    def _announced(self) -> bool:
        """Whether the server printed its address, one JSON line, which proves that the port is its own."""
        assert self._server is not None
        last = self._server.log_tail(1)
        if not (last.startswith("{") and last.endswith("}")):
            return False
        self.base_url = json.loads(last)["base_url"]
        return True


class EmbeddedStack:
    """Everything that embedq needs, started together: a context manager.

    With a ``folder`` the data is kept between runs, and one stack at a time may use it; without one
    everything is temporary. ``environment`` holds the ``EMBEDQ_*`` variables that point embedq at them.
    They end with the ``with`` block, and with this process however it dies.
    """

    def __init__(self, folder: Path | None = None, *, with_api: bool = True) -> None:
        self._folder = None if folder is None else folder.expanduser().resolve()
        self._cleanup = ExitStack()
        self.postgres = Postgres(None if self._folder is None else self._folder / "postgres")
        self.valkey = Valkey(
            None if self._folder is None else self._folder / "valkey", password=secrets.token_urlsafe(16)
        )
        self.local_api = LocalAPI() if with_api else None
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            folder = self._own_folder(cleanup)
            if self.local_api is not None:
                cleanup.callback(self.local_api.close)
                self.local_api.start()
            cleanup.enter_context(self.postgres)
            cleanup.enter_context(self.valkey)
            if self.local_api is not None:
                self.local_api.wait()
            self.environment = self._environment(folder)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def ended(self) -> list[str]:
        """Names of the servers that ended by themselves."""
        servers = {
            "Postgres": self.postgres.running,
            "Valkey": self.valkey.running,
            "the local embeddings server": self.local_api is None or self.local_api.running,
        }
        return [name for name, running in servers.items() if not running]

    def _own_folder(self, cleanup: ExitStack) -> Path:
        if self._folder is None:
            folder = private_folder("embedq-up-")
            cleanup.callback(remove_folder, folder)
            return folder
        self._folder.mkdir(parents=True, exist_ok=True)
        _lock(cleanup.enter_context((self._folder / "lock").open("w")), self._folder)
        return self._folder

    def _environment(self, folder: Path) -> dict[str, str]:
        environment = {"EMBEDQ_BROKER_URL": self.valkey.url, "EMBEDQ_DATABASE_URL": self.postgres.url}
        if self.local_api is None:
            return environment
        configuration = folder / "embedq.toml"
        if not configuration.exists():
            configuration.write_text(_CONFIGURATION)
        api = {"EMBEDQ_API_BASE_URL": self.local_api.base_url, "EMBEDQ_CONFIG": str(configuration)}
        return environment | api


def _lock(file: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EmbeddedError(
            f"another `embedq up` runs in {folder}: stop it first, or choose another folder"
        ) from None
