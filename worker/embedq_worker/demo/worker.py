"""The demo's worker: ``embedq worker``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedq_worker.demo.process import DemoProcess

_READY = " ready."
"""What Celery logs when it consumes."""


class DemoWorker(DemoProcess):
    """A worker process for a stack's ``environment``: a context manager. ``wait`` until it is ready."""

    def __init__(self, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
        super().__init__("the worker", environment, ["worker", *arguments])

    def wait(self) -> None:
        """Wait until it takes messages. Raises ``EmbeddedError`` with the end of its log if it ends."""
        self.wait_until(lambda: _READY in self.log_tail())

    def cpu_seconds(self) -> float | None:
        """Processor time that it has used, in seconds; None where /proc does not tell."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return None
        # proc_pid_stat(5): utime and stime are fields 14 and 15; the name, field 2, may hold spaces.
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
