"""A worker in a process of its own, beside the embedded servers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from embedq_worker.embedded.process import ServerProcess, private_folder, remove_folder, server_environment

_READY = " ready."
"""What Celery logs when it consumes."""


class WorkerServer:
    """``embedq worker`` with the ``EMBEDQ_*`` variables of ``environment``; it is ready when it is entered.

    It dies with the process that started it. A context manager; raises ``EmbeddedError`` with the end of its
    log where it does not start.
    """

    def __init__(self, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
        self._environment = {**server_environment(), **environment}
        self._command = [sys.executable, "-P", "-m", "embedq.cli", "worker", *arguments]
        self._folder: Path | None = None
        self._server: ServerProcess | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._server is not None and self._server.running

    def log(self, lines: int = 20) -> str:
        """The last lines that it logged."""
        return "" if self._server is None else self._server.log_tail(lines)

    def __enter__(self) -> Self:
        self._folder = private_folder("embedq-worker-")
        try:
            self._server = ServerProcess(
                "the worker",
                self._command,
                log=self._folder / "worker.log",
                stop_signal=signal.SIGTERM,
                temporary=self._folder,
                environment=self._environment,
            )
            self._server.wait_until(lambda: _READY in self.log())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop it, warmly, and remove its log."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._folder is not None:
            remove_folder(self._folder)
            self._folder = None
