"""Small fleets on virtual time: what ``make simulate`` shows at a large scale must hold here too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedq_worker.limiter.exchange import Limits
from tests.simulation.agenda import Agenda
from tests.simulation.audit import Audit
from tests.simulation.report import Report
from tests.simulation.run import SCENARIOS
from tests.simulation.scenarios.bed import bulk_world, fleet
from tests.simulation.scenarios.fairness import max_min_finish
from tests.simulation.service import Service
from tests.simulation.size import SMALL
from tests.simulation.sliding import SlidingMinute


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_small_fleet_keeps_the_bounds(name: str, broker_url: str) -> None:
    """Each scenario has its bounds in it."""
    for report in SCENARIOS[name](broker_url, SMALL):
        assert not report.failures, str(report)


def test_the_same_seed_gives_the_same_figures(broker_url: str) -> None:
    """But for the real time that Redis takes."""
    size = replace(SMALL, kill_seconds=5.0)
    first, second = (_virtual(SCENARIOS["kills"](broker_url, size)[0]) for _ in range(2))
    assert first == second
    assert first != _virtual(SCENARIOS["kills"](broker_url, replace(size, seed=2))[0])


def test_the_audit_sees_a_fleet_that_disagrees(broker_url: str) -> None:
    """Half of the processes were told of a limit twice as high as the audit goes by."""
    with fleet(broker_url, 1) as where:
        service = Service(where.agenda, where.rng)
        world = bulk_world(where, "torn", Limits(10), service)
        where.start_all(2, [world])
        world.limits = Limits(20)
        where.start_all(2, [world])
        where.agenda.run(5)
        assert world.audit.overshoot == 10


def test_calls_of_the_dead_do_not_count() -> None:
    """The limit is promised for live holders."""
    audit = Audit(Agenda(), limit=1)
    audit.began()
    audit.ended()
    audit.began()
    assert audit.overshoot == 0
    audit.began()
    assert audit.overshoot == 1


def test_a_sliding_minute_is_half_open() -> None:
    """What happened exactly a minute ago is out; a wait ends when it goes."""
    minute = SlidingMinute()
    minute.add(0.0, 10)
    minute.add(30.0, 20)
    assert minute.until_room(59.0, 2, None, 1) == 1.0
    assert minute.until_room(59.0, None, 35, 10) == 1.0
    assert minute.until_room(59.0, None, 35, 30) == 31.0
    minute.add(60.0, 5)
    assert (minute.busiest_requests, minute.busiest_tokens) == (2, 30)


def test_fair_finishes() -> None:
    """One and three units at two a second: the small one has half of that until it is done."""
    assert max_min_finish([3, 1], 2) == [2.0, 1.0]


def _virtual(report: Report) -> dict[str, float]:
    return {
        name: figure.value
        for name, figure in report.figures.items()
        if "CPU" not in name and "core" not in name
    }
