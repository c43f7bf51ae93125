"""``make bench-limits``: what the limits promise, on real workers and servers, beside what is measured.

The fake API stands for the service. Exit code 1 if something was missed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable

from tests.bench.limits import (
    cost,
    fairness,
    idle,
    isolation,
    kills,
    queries,
    rates,
    refused_key,
    retry_after,
    silent,
)
from tests.bench.limits.report import Report

SCENARIOS: dict[str, Callable[[Report, bool], None]] = {
    "cost": cost.run,
    "idle": idle.run,
    "kills": kills.run,
    "rates": rates.run,
    "silent": silent.run,
    "retry-after": retry_after.run,
    "isolation": isolation.run,
    "fairness": fairness.run,
    "queries": queries.run,
    "refused-key": refused_key.run,
}


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.limits", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS) + "; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="scaled down, to try the benchmark itself")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and workers are stopped
    report = Report()
    for name in arguments.scenarios or SCENARIOS:
        _play(report, name, arguments.quick)
    print(f"\n{report.table()}\n\n{len(report.missed)} missed")
    return int(bool(report.missed))


def _play(report: Report, name: str, quick: bool) -> None:
    """Run one scenario; one that breaks is missed, and the others are run all the same."""
    began = time.monotonic()
    report.begin(name)
    try:
        SCENARIOS[name](report, quick)
    except Exception as error:
        traceback.print_exc()
        report.fail("ran to its end", type(error).__name__)
    report.end()
    print(f"  ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
