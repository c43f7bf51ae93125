"""``make chaos``: real processes, killed, stopped, cut off and lied to; then every id is checked.

The load and the deeds are those of the seed. Exit code 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from dataclasses import fields
from pathlib import Path

from tests.chaos.load import plan
from tests.chaos.options import Options
from tests.chaos.run import run
from tests.chaos.world import own_world

_FOLDER = Path(__file__).parents[2] / ".chaos"


def main() -> int:
    """Run, and print the outcome."""
    options = _options(_parser().parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in order: servers and workers are stopped
    folder = _FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{options.seed}"
    folder.mkdir(parents=True)
    print(f"seed {options.seed}; to repeat it: {_again(options)}", flush=True)
    with own_world(folder, options) as world:
        report = run(world, folder, options, plan(options.seed, options.jobs))
    print(report)
    return 1 if report.broken else 0


def _again(options: Options) -> str:
    """The command that repeats a run."""
    arguments = f' CHAOS_ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""
    return f"make chaos CHAOS_SEED={options.seed} CHAOS_JOBS={options.jobs}{arguments}"


def _options(arguments: argparse.Namespace) -> Options:
    names = {each.name for each in fields(Options)}
    options = {name: value for name, value in vars(arguments).items() if name in names}
    if arguments.no_kills:
        options |= {"kill_every": 0.0, "stop_every": 0.0}
    return Options(**options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    jobs = int(os.environ.get("CHAOS_JOBS") or Options.jobs)
    minutes = float(os.environ.get("CHAOS_MINUTES") or Options.minutes)
    parser.add_argument("--seed", type=int, default=seed, help="decides the load and the deeds")
    parser.add_argument("--jobs", type=int, default=jobs, help="items to enqueue")
    parser.add_argument("--minutes", type=float, default=minutes, help="the most that the deeds may last")
    parser.add_argument("--no-kills", action="store_true", help="no worker is killed or stopped")
    parser.add_argument("--workers", type=int, default=Options.workers, help="worker processes")
    parser.add_argument("--rate", type=float, default=Options.rate, help="items enqueued a second")
    parser.add_argument(
        "--faults", type=float, default=Options.faults, help="share of the API's calls that fail"
    )
    for name, what in (
        ("kill", "SIGKILL of a worker"),
        ("stop", "SIGSTOP of a worker"),
        ("valkey", "restart of Valkey"),
        ("postgres", "immediate stop of Postgres"),
        ("cut", "cut of a connection"),
    ):
        default = getattr(Options, f"{name}_every")
        parser.add_argument(
            f"--{name}-every", type=float, default=default, help=f"seconds between two of: {what}; 0: never"
        )
    for name, what in (
        ("lease", "the workers' message lease, seconds"),
        ("downtime", "the most seconds that a stopped server is away"),
        ("settle", "the most seconds for the work that is left when the deeds are over"),
    ):
        parser.add_argument(f"--{name}", type=float, default=getattr(Options, name), help=what)
    return parser


if __name__ == "__main__":
    sys.exit(main())
