"""``make alerts``: each failure of the chaos harness, and the metric and the alert that tell of it.

Real workers with the settings of every installation, real servers, a real Prometheus with the rules of the
compose stack, and an API that fails in every way that it knows. About twelve minutes. Exit code 1 if a
failure moves no metric, is no alert within a minute, or stays one.
"""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path

from tests.alerts.failures import API_FAILURES
from tests.alerts.run import run
from tests.alerts.scene import Scene
from tests.chaos.options import Options
from tests.chaos.world import own_world

_FOLDER = Path(__file__).parents[2] / ".chaos"


def main() -> int:
    """Run, and print what was seen."""
    program = shutil.which("prometheus")
    if program is None:
        print(
            "prometheus is not installed; on Debian and Ubuntu run 'apt-get install prometheus'",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in order: servers and workers are stopped
    folder = _FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-alerts"
    folder.mkdir(parents=True)
    began = time.monotonic()
    with (
        own_world(folder, Options(seed=0, faults=0)) as world,
        Scene(world, folder, program, API_FAILURES) as scene,
    ):
        report = run(scene, lambda what: print(f"{time.monotonic() - began:5.0f} s  {what}", flush=True))
    print(report)
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
