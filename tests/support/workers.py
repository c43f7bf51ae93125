"""Real worker processes for tests: started, watched, stopped or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

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
        program = ["embedq.cli"] if change is None else ["tests.support.changed", change]
        self._command = [sys.executable, "-m", *program, "worker", *arguments, "--processes", str(processes)]
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._ready = threading.Semaphore(0)
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
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
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            if READY in line:
                self._ready.release()
        self._process.stdout.close()
