"""Real worker processes for tests: started, watched, stopped or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from tests.support.warm import WARMTH, WarmProcess

READY = " ready."
"""What Celery logs when it consumes."""


class Worker:
    """``embedq worker`` as a process of its own; its output is kept in ``lines``.

    With a ``change`` (``tests.support.changed``) it is one process: a supervisor starts others without.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
        *,
        processes: int = 1,
        ready: bool = True,
        change: str | None = None,
    ) -> None:
        self.lines: list[str] = []
        self._awaited = processes if ready else 0
        self._arguments = ["worker", *arguments, "--processes", str(processes)]
        self._changes = change or ""
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._ready = threading.Semaphore(0)
        self._process: WarmProcess | None = None
        self._output: TextIO | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        reading, writing = os.pipe()
        self._output = os.fdopen(reading, encoding="utf-8")
        with Path(os.devnull).open() as nothing:
            self._process = WARMTH.start(
                self._arguments,
                self._environment,
                stdin=nothing.fileno(),
                stdout=writing,
                changes=self._changes,
                is_leader=True,
            )
        os.close(writing)
        self._reader.start()
        for _ in range(self._awaited):
            if not self._ready.acquire(timeout=30):
                self.kill()
                raise AssertionError("the worker did not get ready:\n" + self.output)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the worker did not stop:\n" + self.output) from error

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """All that it printed so far."""
        return "".join(self.lines)

    def stop(self, timeout: float = 20) -> int:
        """SIGTERM, and wait; returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = 20) -> int:
        """Wait for the end that a signal brought about; returns the exit code."""
        assert self._process is not None
        code = self._process.wait(timeout)
        self._reader.join(5)
        return code

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def _read(self) -> None:
        assert self._output is not None
        with self._output:
            for line in self._output:
                self.lines.append(line)
                if READY in line:
                    self._ready.release()
