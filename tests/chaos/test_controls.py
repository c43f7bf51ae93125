"""The harness is not blind: with one safeguard off it finds what that one prevents, and with it on nothing.

Each run is small, its load aimed at the safeguard.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedq.testing import faults
from tests.chaos.checker import Write
from tests.chaos.load import MARKER, Enqueue, single
from tests.chaos.options import CALM
from tests.chaos.report import Report
from tests.chaos.run import run
from tests.chaos.saboteur import SAFEGUARDS
from tests.chaos.world import MakeWorld

controlled: set[str] = set()
"""The safeguards that have a control here."""


def put(item_id: int, version: int = 1, more: str = "") -> Write:
    """A write of a text that no other has."""
    return Write(
        "docs", str(item_id), version, f"text of {item_id} as of {version} {more}", poison=MARKER in more
    )


def both(safeguard: str, missing: str) -> pytest.MarkDecorator:
    """Once with every safeguard and once without this one; ``missing``: what is found then."""
    controlled.add(safeguard)
    cases = [pytest.param(None, "", id="on"), pytest.param(safeguard, missing, id="off")]
    return pytest.mark.parametrize(("sabotage", "found"), cases)


def assert_found(report: Report, found: str) -> None:
    """This kind of finding, or none at all. Without a safeguard more than one promise may break."""
    kinds = {finding.partition(":")[0] for finding in report.broken}
    assert found in kinds if found else not kinds, str(report)


@both("stock_transport", "lost")
def test_the_atomic_fetch(make_world: MakeWorld, tmp_path: Path, sabotage: str | None, found: str) -> None:
    """Workers that wait for messages are killed while one is on its way to them."""
    options = replace(CALM, sabotage=sabotage, workers=3, rate=60, kill_every=0.5, strand=1, minutes=7 / 60)
    writes = [put(number) for number in range(400)]
    report = run(make_world(options), tmp_path, options, single(writes))
    assert report.deeds["kill"]
    assert_found(report, found)


@both("version_guard", "stale")
def test_the_guard_of_versions(
    make_world: MakeWorld, tmp_path: Path, sabotage: str | None, found: str
) -> None:
    """The newest version of each id is called for first, and the older ones are in flight with it.

    Their answers come 50 ms apart: of what is written together the newest is kept in any case.
    """
    model = {"max_inputs": 20, "max_concurrency": 16}
    options = replace(CALM, sabotage=sabotage, rate=400, latency=0.3, model=model)
    world = make_world(options)
    rounds = [[put(number, version) for number in range(20)] for version in range(8, 0, -1)]
    report = run(world, tmp_path, options, [Enqueue("docs", "live", writes) for writes in rounds])
    assert_found(report, found)


@both("heartbeat", "billed twice")
def test_the_heartbeat(make_world: MakeWorld, tmp_path: Path, sabotage: str | None, found: str) -> None:
    """One worker after the other has a job for most of a lease, and nobody is killed.

    Several jobs: one that the other worker happens not to take over in time shows nothing.
    """
    options = replace(CALM, sabotage=sabotage, workers=3, rate=10, latency=1.5)
    jobs = [Enqueue("docs", "live", [put(10 * job + number) for number in range(10)]) for job in range(5)]
    assert_found(run(make_world(options), tmp_path, options, jobs), found)


@both("bisecting", "unexpected")
def test_bisecting(make_world: MakeWorld, tmp_path: Path, sabotage: str | None, found: str) -> None:
    """One text of a batch is refused."""
    options = replace(CALM, sabotage=sabotage)
    writes = [put(number, more=MARKER if number == 11 else "") for number in range(32)]
    report = run(make_world(options), tmp_path, options, [Enqueue("docs", "live", writes)])
    assert_found(report, found)


@both("index_matching", "wrong vector")
def test_index_matching(make_world: MakeWorld, tmp_path: Path, sabotage: str | None, found: str) -> None:
    """Each answer has its vectors in another order."""
    options = replace(CALM, sabotage=sabotage)
    world = make_world(options)
    world.api.inject(faults.ShuffledOrder())
    report = run(world, tmp_path, options, [Enqueue("docs", "live", [put(number) for number in range(64)])])
    assert_found(report, found)


def test_every_safeguard_has_its_control() -> None:
    """Whoever can be taken away is missed by a test above."""
    assert controlled == SAFEGUARDS.keys()
