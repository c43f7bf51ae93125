"""``make simulate``: large fleets on virtual time, over the limiter's own Lua in a real Valkey.

Workers, network and services are simulated; positions (``embedq_worker.limiter.position``) and the script are
the real ones. The same seed gives the same figures, but for the processor time of Redis.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context

from embedq_worker.embedded.valkey import Valkey
from tests.simulation.report import Report
from tests.simulation.scenarios import fairness, idle, kills, memory, outages, rates, silent, steady
from tests.simulation.size import Size

SCENARIOS: dict[str, Callable[[str, Size], list[Report]]] = {
    "steady": steady.run,
    "rates": rates.run,
    "fairness": fairness.run,
    "outages": outages.run,
    "silent": silent.run,
    "kills": kills.run,
    "memory": memory.run,
    "idle": idle.run,
}


def play(name: str, size: Size) -> tuple[list[Report], float]:
    """Run one scenario on a Valkey of its own; its reports, and the seconds that it took in reality."""
    began = time.monotonic()
    with Valkey() as server:
        return SCENARIOS[name](server.url, size), time.monotonic() - began


def main() -> int:
    """Run the scenarios and print their figures. 1 if any is out of its bounds."""
    arguments = _parser().parse_args()
    size = Size(**{field.name: getattr(arguments, field.name) for field in fields(Size)})
    failures: list[str] = []
    os.environ["PYTHONHASHSEED"] = "0"  # the order of sets is that of what is asked
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        running = {name: pool.submit(play, name, size) for name in arguments.only or SCENARIOS}
        for name, future in running.items():
            reports, seconds = future.result()
            for report in reports:
                print(report, end="\n\n")
                failures += [f"{report.title.partition(':')[0]}: {figure}" for figure in report.failures]
            print(f"({name}: {seconds:.0f} s)\n", flush=True)
    for failure in failures:
        print(f"out of bounds: {failure}")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Seconds are virtual.",
    )
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="scenarios at a time")
    for field in fields(Size):
        kind = type(field.default)
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=kind, default=field.default, help=f"default {field.default}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
