"""``make bench-import``: how long the bare wheel takes to import, and what it brings.

Each import is a process of its own, and its time is that of the ``import`` statement, without Python's start.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.report import Report
from tests.support.bare import bare_environment, run

WANTED = 150
"""Milliseconds of ``import embedq``."""
RUNS = 30
UNWANTED = ("numpy", "psycopg", "httpx")
COUNT = f"from importlib.util import find_spec; print(sum(map(bool, map(find_spec, {UNWANTED}))))"
IMPORT = "from time import {0} as clock; began = clock(); {1}; print(1_000 * (clock() - began))"
MAKE = "from embedq import Producer; Producer('redis://127.0.0.1:1/0', check=False)"


def measure(report: Report, python: Path) -> None:
    """Import again and again, and look for what a producer has no use for."""
    report.begin("import")
    report.add(f"of {', '.join(UNWANTED)} installed", int(run(python, "-I", "-c", COUNT)), at_most=0)
    took = times(python, "import embedq")
    report.add("import embedq, ms (median)", statistics.median(took), at_most=WANTED)
    report.add("import embedq, ms (maximum)", max(took))
    used = times(python, "import embedq", clock="process_time")
    report.add("import embedq, ms of CPU (median), whatever else runs", statistics.median(used))
    took = times(python, MAKE)
    report.add("with a Producer made, which imports redis, ms (median)", statistics.median(took))


def times(python: Path, statement: str, clock: str = "perf_counter") -> list[float]:
    """Milliseconds of each run but the first, which compiles."""
    return [float(run(python, "-I", "-c", IMPORT.format(clock, statement))) for _ in range(RUNS + 1)][1:]


def main() -> None:
    """Print the figures; exit code 1 if one is missed."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        measure(report, bare_environment(Path(folder)) / "python")
    print(f"\n{report.table()}\n\n{len(report.missed)} missed")
    sys.exit(bool(report.missed))


if __name__ == "__main__":
    main()
