"""Runs scenarios one after the other and prints what each has measured; the command line of a benchmark."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping

from tests.bench.report import Report

Scenario = Callable[[Report, bool], None]
"""Adds its figures to the report; scaled down if the second argument says so."""


def play(program: str, description: str | None, scenarios: Mapping[str, Scenario]) -> int:
    """Run what the command line names; returns the exit code, 1 if something was missed."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=", ".join(scenarios) + "; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="scaled down, to try the benchmark itself")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - scenarios.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}; there are {', '.join(scenarios)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and workers are stopped
    report = Report()
    for name in arguments.scenarios or scenarios:
        _play(report, name, scenarios[name], arguments.quick)
    print(f"\n{report.table()}\n\n{len(report.missed)} missed")
    return int(bool(report.missed))


def _play(report: Report, name: str, scenario: Scenario, quick: bool) -> None:
    """Run one scenario; one that breaks is missed, and the others are run all the same."""
    began = time.monotonic()
    report.begin(name)
    try:
        scenario(report, quick)
    except Exception as error:
        traceback.print_exc()
        report.fail("ran to its end", type(error).__name__)
    report.end()
    print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
