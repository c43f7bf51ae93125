"""``make chaos-outbox``: transactions that enqueue, while workers are killed and Redis is emptied once.

Then the collection must be what was committed, exactly. The load and the deeds are those of the seed. Exit
code 1 if it is not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.chaos.options import Options
from tests.chaos.outbox.load import plan
from tests.chaos.outbox.run import run
from tests.chaos.world import own_world

_FOLDER = Path(__file__).parents[3] / ".chaos"


def main() -> int:
    """Run, and print the outcome."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in order: servers and workers are stopped
    options = Options(
        seed=arguments.seed,
        minutes=arguments.minutes,
        workers=arguments.workers,
        rate=arguments.rate,
        kill_every=arguments.kill_every,
        stop_every=arguments.stop_every,
        valkey_every=arguments.valkey_every,
        postgres_every=arguments.postgres_every,
        cut_every=0,
        faults=arguments.faults,
        latency=0.1,
    )
    folder = _FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-outbox-{options.seed}"
    folder.mkdir(parents=True)
    print(f"seed {options.seed}, {arguments.transactions:,} transactions", flush=True)
    with own_world(folder, options) as world:
        report = run(
            world, folder, options, plan(options.seed, arguments.transactions), writers=arguments.writers
        )
    print(report)
    return 1 if report.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.outbox",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    transactions = int(os.environ.get("CHAOS_TRANSACTIONS") or 100_000)
    parser.add_argument("--seed", type=int, default=seed, help="decides the load and the deeds")
    parser.add_argument("--transactions", type=int, default=transactions, help="one in ten is rolled back")
    parser.add_argument("--rate", type=float, default=0.0, help="transactions a second; 0: as fast as can be")
    parser.add_argument("--writers", type=int, default=4, help="transactions at a time")
    parser.add_argument("--workers", type=int, default=3, help="worker processes, each with its relay")
    parser.add_argument("--minutes", type=float, default=30.0, help="the most that the deeds may last")
    parser.add_argument("--faults", type=float, default=0.02, help="share of the API's calls that fail")
    for name, seconds, what in (
        ("kill", 2.0, "SIGKILL of a worker"),
        ("stop", 15.0, "SIGSTOP of a worker"),
        ("valkey", 0.0, "restart of Valkey"),
        ("postgres", 0.0, "immediate stop of Postgres"),
    ):
        parser.add_argument(
            f"--{name}-every", type=float, default=seconds, help=f"seconds between two of: {what}; 0: never"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
