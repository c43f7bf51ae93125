"""Small runs: the collection is what was committed, and is not where a safeguard is missing."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.options import CALM
from tests.chaos.outbox.load import Change, Transaction, plan
from tests.chaos.outbox.run import run
from tests.chaos.outbox.saboteur import SAFEGUARDS
from tests.chaos.world import MakeWorld


def test_the_collection_is_what_was_committed(make_world: MakeWorld, tmp_path: Path) -> None:
    """Workers are killed, Redis is emptied; `--randomly-seed` repeats it."""
    options = replace(
        CALM, seed=random.randrange(10**6), workers=3, rate=300, kill_every=1, faults=0.02, minutes=0.5
    )
    report = run(make_world(options), tmp_path, replace(options, settle=30), plan(options.seed, 900))
    assert not report.broken, f"seed {options.seed}: {report}"
    assert report.deeds["kill"] > 1
    assert report.emptied.messages
    assert all(report.transactions[how] for how in ("committed", "rolled back"))


@pytest.mark.parametrize("sabotage", SAFEGUARDS)
def test_what_the_safeguards_are_for(make_world: MakeWorld, tmp_path: Path, sabotage: str) -> None:
    """Without one, what was in Redis when it was emptied is lost."""
    options = replace(CALM, sabotage=sabotage, latency=1, minutes=0.5, settle=3)
    once = [Transaction([Change(str(number), f"text {number}")], commits=True) for number in range(50)]
    report = run(make_world(options), tmp_path, options, once, flush_at=1)
    assert report.emptied.messages
    assert "lost" in report.broken, str(report)
