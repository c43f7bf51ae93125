"""A few thousand items under a handful of every deed: all promises hold."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.load import plan
from tests.chaos.options import Options
from tests.chaos.run import run
from tests.chaos.world import own_world

ITEMS = 3000


@pytest.mark.timeout(120)
def test_all_promises_hold(tmp_path: Path) -> None:
    """Kills, stops, restarts, cuts and the API's faults; `--randomly-seed` repeats it."""
    options = Options(
        seed=random.randrange(10**6),
        jobs=ITEMS,
        minutes=12 / 60,
        workers=3,
        rate=300,
        kill_every=2,
        stop_every=4,
        valkey_every=5,
        postgres_every=6,
        cut_every=1,
        lease=2,
        downtime=0.5,
        settle=40,
    )
    calls = plan(options.seed, options.jobs)
    with own_world(tmp_path, options) as world:
        report = run(world, tmp_path, options, calls)
    assert not report.broken, f"seed {options.seed}: {report}"
    deeds = {"kill", "stop", "valkey stop", "postgres stop", "cut broker", "cut database"}
    assert deeds <= report.deeds.keys(), str(report)
    assert report.verdict.ok + len(report.verdict.recovered) == len(
        {w.key for call in calls for w in call.writes}
    )
