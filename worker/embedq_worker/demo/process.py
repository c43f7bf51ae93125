"""A process of the demo: one of embedq's commands, as anybody would start it, with its log in a file."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from embedq_worker.embedded.process import ServerProcess, private_folder, remove_folder, server_environment


class DemoProcess:
    """``embedq`` with these arguments, for a stack's ``environment``: a context manager."""

    def __init__(self, name: str, environment: Mapping[str, str], arguments: Sequence[str]) -> None:
        self._name = name
        self._environment = {**server_environment(), **environment, "PYTHONUNBUFFERED": "1"}
        self._command = [sys.executable, "-P", "-m", "embedq.cli", *arguments]
        self._folder: Path | None = None
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self._folder = private_folder("embedq-demo-")
        try:
            self._process = ServerProcess(
                self._name,
                self._command,
                log=self._folder / "log",
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

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def log_tail(self) -> str:
        """The last lines of its log."""
        assert self._process is not None
        return self._process.log_tail()

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready()``. Raises ``EmbeddedError`` with the end of its log if it ends first."""
        assert self._process is not None
        self._process.wait_until(ready)
