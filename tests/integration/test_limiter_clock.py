"""Redis' clock is set back, as by a failover to a slow one: the fleet goes on after a lease."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedq_worker.limiter.exchange import CallOutcome, Limits
from tests.support.fleet import Endless, Fleet
from tests.support.holders import Watch

LEASE = 6.0
HOUR = 3600.0
RATES = Limits(4, requests_per_minute=600, tokens_per_minute=60_000, concurrency="fixed")


def set_back(fleet: Fleet, seconds: float) -> None:
    """The server's clock alone; the processes' own go on."""
    fleet.skew -= seconds


@pytest.mark.parametrize(
    "outcome",
    [
        CallOutcome("answered"),
        CallOutcome("throttled", why="429", cool=5_000),
        CallOutcome("refused", why="the service refuses us"),
    ],
    ids=["window", "cooling", "pause"],
)
def test_the_fleet_goes_on_after_a_lease(broker_url: str, outcome: CallOutcome) -> None:
    """Whatever the future held: leases of the dead, a minute's window, a cool-down, a pause."""
    with Fleet(broker_url, lease=LEASE) as fleet:
        dead, busy = fleet.process(RATES), fleet.process(RATES)
        dead.want(3)
        fleet.settle()
        dead.is_up = False
        endless = Endless(fleet, seconds=0.2)
        endless.add(busy, tokens=100)
        fleet.run(30)
        endless.outcome = lambda *_: outcome
        fleet.run(1)
        endless.outcome = lambda *_: CallOutcome("answered")
        set_back(fleet, HOUR)
        began, before = fleet.now, len(fleet.grants)
        fleet.run(LEASE + 3)
        after = [grant.at / 1000 for _, grant in fleet.grants[before:]]
    assert after, "nothing was granted"
    assert min(after) - (fleet.server_time(began)) >= LEASE - 1.1


def test_calls_in_flight_count(broker_url: str) -> None:
    """They are entered again, and a slot that they have is not another's."""
    with Fleet(broker_url, lease=LEASE) as fleet:
        first, second = (fleet.process(Limits(2, concurrency="fixed")) for _ in range(2))
        first.want(1)
        fleet.settle()
        set_back(fleet, HOUR)
        second.want(5)
        fleet.run(LEASE + 2)
        assert len(second.holding) == 1
        assert fleet.leases() == {grant.holder for grant in (*first.holding, *second.holding)}


def test_failures_of_calls_from_before_open_the_breaker(broker_url: str) -> None:
    """Their grants lie in the future; the time of failing does not begin there."""
    with Fleet(broker_url, lease=60) as fleet:
        process = fleet.process(Limits(8, concurrency="fixed"))
        process.want(8)
        fleet.settle()
        set_back(fleet, 30)
        for grant in process.holding:
            process.end(grant, CallOutcome("failed", why="HTTP 500"))
            fleet.run(2)
        assert fleet.state().get("broken") == "HTTP 500"


def test_a_short_step_is_waited_for(broker_url: str) -> None:
    """To give up the memory would cost a lease."""
    with Fleet(broker_url, lease=LEASE) as fleet:
        process = fleet.process(Limits(2, concurrency="fixed"))
        Endless(fleet, seconds=0.2).add(process)
        fleet.run(5)
        epoch = fleet.state()["epoch"]
        set_back(fleet, LEASE / 2)
        before = len(fleet.grants)
        fleet.run(1)
        assert len(fleet.grants) > before
        assert fleet.state()["epoch"] == epoch


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 6))
def test_never_more_live_holders_than_the_limit(broker_url: str, seed: int, limit: int) -> None:
    """However often and far it is set back, and at last the fleet works as before."""
    rng = random.Random(seed)
    with Fleet(broker_url, lease=LEASE) as fleet:
        watch = Watch(fleet, limit)
        processes = [fleet.process(Limits(limit, concurrency="fixed")) for _ in range(3)]
        for _ in range(40):
            process = rng.choice(processes)
            process.want(rng.randint(1, 5))
            for grant in process.holding[: rng.randint(0, 2)]:
                process.end(grant)
            fleet.run(rng.choice([0.0, 0.01, 0.5, 2.0]))
            if rng.random() < 0.1:
                set_back(fleet, rng.choice([0.5, LEASE / 2, 2 * LEASE, HOUR]))
        for process in processes:
            process.end_all()
            process.want(5)
        fleet.run(LEASE + 3)
        assert watch.count() == limit
