"""One of embedq's commands in a process of its own, beside the embedded servers, with its log in a file."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from embedq_worker.embedded.process import ServerProcess, private_folder, remove_folder, server_environment


class CommandProcess:
    """``embedq`` with these arguments and the ``EMBEDQ_*`` variables of ``environment``: a context manager.

    ``name`` is for messages. It dies with the process that started it.
    """

    def __init__(self, name: str, environment: Mapping[str, str], arguments: Sequence[str]) -> None:
        self._name = name
        self._environment = {**server_environment(), **environment, "PYTHONUNBUFFERED": "1"}
        self._command = [sys.executable, "-P", "-m", "embedq.cli", *arguments]
        self._folder: Path | None = None
        self._process: ServerProcess | None = None

    def __enter__(self) -> Self:
        self._folder = private_folder("embedq-command-")
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

    def log(self, lines: int = 20) -> str:
        """The last lines of its log."""
        assert self._process is not None
        return self._process.log_tail(lines)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until ``ready()``. Raises ``EmbeddedError`` with the end of its log if it ends first."""
        assert self._process is not None
        self._process.wait_until(ready)
