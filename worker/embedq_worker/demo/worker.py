"""The demo's worker, and what it costs."""

from __future__ import annotations

import os
from pathlib import Path

from embedq_worker.embedded.worker import WorkerServer


class DemoWorker(WorkerServer):
    """A worker that is measured."""

    def cpu_seconds(self) -> float | None:
        """Processor time that it has used, in seconds; None where /proc does not tell."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return None
        # proc_pid_stat(5): utime and stime are fields 14 and 15; the name, field 2, may hold spaces.
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
