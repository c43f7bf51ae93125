"""A server process that does not outlive the process that started it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict, cast

from embedq.errors import EmbedqError

_GUARD = Path(__file__).with_name("guard.sh")
_POLL = 0.01
_LONGEST_FOLDER = 80
"""Bytes of a private folder's path: a socket in it must fit the 104 bytes of ``sun_path`` on macOS."""


class EmbeddedError(EmbedqError):
    """An embedded server could not be installed, started or stopped; the message says which and why."""


class Identity(TypedDict, total=False):
    """Who a server runs as: keyword arguments of ``subprocess.Popen``; empty means the caller."""

    user: int
    group: int
    extra_groups: list[int]


def unprivileged() -> Identity:
    """The identity for a server that refuses to run as root; empty unless the caller is root.

    It is ``nobody``, which every system has, so that no account has to be made and left behind.
    """
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "Postgres refuses to run as root and this system has no user 'nobody' to run it as: "
            "create that user, or run embedq as an ordinary user"
        ) from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def package_folder(package: str) -> Path:
    """Where a package's files are; it is not imported. Raises ``EmbeddedError`` if it is missing."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"the package {package!r} is missing: install it with `pip install 'embedq[embedded]'`"
        )
    return Path(spec.origin).parent


def private_folder(prefix: str) -> Path:
    """A new temporary folder with mode 0700 and a path short enough for a Unix socket."""
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) + len(prefix) + 9 > _LONGEST_FOLDER:
        parent = "/tmp"  # noqa: S108  # mkdtemp names and protects the folder
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def server_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """A server's environment: none of the caller's settings and secrets, and English messages."""
    inherited = os.environ if environment is None else environment
    kept = {name: value for name, value in inherited.items() if not name.startswith(("PG", "EMBEDQ_", "LC_"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


class ServerProcess:
    """A child in its own session, so that Ctrl-C in a terminal reaches its starter alone.

    A guard (``guard.sh``) stops it with ``stop_signal`` when the starter dies by SIGKILL, and then removes
    ``temporary``. Output is appended to ``log``.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        stop_signal: signal.Signals,
        temporary: Path | None = None,
        identity: Identity | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._stop_signal = stop_signal
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  # the callers name the programs
                [os.fspath(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=server_environment() if environment is None else dict(environment),
                start_new_session=True,
                **(identity or {}),
            )
        try:
            self._guard = self._start_guard(temporary)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _start_guard(self, temporary: Path | None) -> subprocess.Popen[bytes]:
        folder = "" if temporary is None else os.fspath(temporary)
        return subprocess.Popen(  # noqa: S603  # our own script
            ["/bin/sh", _GUARD, str(self.pid), self._stop_signal.name.removeprefix("SIG"), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server has not ended yet."""
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait until ``ready()`` is true, at most ``timeout`` seconds.

        Raises ``EmbeddedError`` with the end of the server's log if it ends first or takes longer.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise EmbeddedError(f"{self.name} ended while starting; its log says:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.name} was not ready after {timeout:g} s; its log says:\n{self.log_tail()}"
                )
            time.sleep(_POLL)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that this run of the server logged."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the server with its signal, after ``timeout`` seconds with SIGKILL. May be called twice."""
        try:
            if self.running:
                self._process.send_signal(self._stop_signal)
                self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._end()

    def _end(self) -> None:
        """Also reached by a second Ctrl-C, which interrupts the wait for the server."""
        if self.running:
            self._process.kill()
        self._process.wait()
        if self._guard.poll() is None:
            self._guard.communicate(b"\n")


def remove_folder(folder: Path) -> None:
    """Remove a server's temporary folder; what cannot be removed is left to the system."""
    shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now; another program may take it before its user does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast("int", probe.getsockname()[1])
