"""The demo's worker: ``embedq worker``, as anybody would start it, with its log in a file."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from embedq_worker.embedded.process import ServerProcess, private_folder, remove_folder, server_environment

_READY = " ready."
"""What Celery logs when it consumes."""


class DemoWorker:
    """A worker process for a stack's ``environment``: a context manager. ``wait`` until it is ready."""

    def __init__(self, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
        self._environment = {**server_environment(), **environment}
        self._command = [sys.executable, "-P", "-m", "embedq.cli", "worker", *arguments]
        self._folder: Path | None = None
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self._folder = private_folder("embedq-demo-")
        try:
            self._process = ServerProcess(
                "the worker",
                self._command,
                log=self._folder / "worker.log",
                stop_signal=signal.SIGTERM,
                temporary=self._folder,
                environment=self._environment,
            )
        except BaseException:
            remove_folder(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process is not None:
                self._process.stop()
        finally:
            if self._folder is not None:
                remove_folder(self._folder)

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.running

    def wait(self) -> None:
        """Wait until it takes messages. Raises ``EmbeddedError`` with the end of its log if it ends."""
        assert self._process is not None
        process = self._process
        process.wait_until(lambda: _READY in process.log_tail())

    def log_tail(self) -> str:
        """The last lines of its log."""
        assert self._process is not None
        return self._process.log_tail()

    def cpu_seconds(self) -> float | None:
        """Processor time that it has used, in seconds; None where /proc does not tell."""
        assert self._process is not None
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return None
        # proc_pid_stat(5): utime and stime are fields 14 and 15; the name, field 2, may hold spaces.
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
