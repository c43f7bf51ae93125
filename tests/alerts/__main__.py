"""``make alerts``: failures are caused, and the metric and the alert must tell of each.

Real workers with the settings of every installation, real servers, a real Prometheus with the rules of the
compose stack, and an API that fails in every way that it knows. All of it takes about twenty minutes. Exit
code 1 if a failure moves no metric, is no alert in time, or stays one.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.alerts.failures import API_FAILURES, DEEDS
from tests.alerts.run import run
from tests.alerts.scene import Scene
from tests.chaos.options import Options
from tests.chaos.world import own_world

_FOLDER = Path(__file__).parents[2] / ".chaos"
_NAMES = [failure.model for failure in API_FAILURES] + list(dict.fromkeys(deed.name for deed in DEEDS))


def main() -> int:
    """Run, and print what was seen."""
    chosen = _chosen()
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
    failures = [failure for failure in API_FAILURES if failure.model in chosen]
    deeds = [deed for deed in DEEDS if deed.name in chosen]
    with (
        own_world(folder, Options(seed=0, faults=0)) as world,
        Scene(world, folder, program, failures, deeds) as scene,
    ):
        report = run(scene, lambda what: print(f"{time.monotonic() - began:5.0f} s  {what}", flush=True))
    print(report)
    return 1 if report.broken else 0


def _chosen() -> Sequence[str]:
    """The names of the failures to cause."""
    parser = argparse.ArgumentParser(prog="python -m tests.alerts", description=__doc__)
    parser.add_argument(
        "failure", nargs="*", help=f"only these, of: {', '.join(map(repr, _NAMES))} (default: all)"
    )
    chosen: Sequence[str] = parser.parse_args().failure or _NAMES
    if unknown := set(chosen) - set(_NAMES):
        parser.error(f"no such failure: {', '.join(sorted(unknown))}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
