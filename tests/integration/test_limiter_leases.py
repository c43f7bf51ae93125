"""Leases on virtual time: the limit holds whatever processes do, stop doing, and do not hear."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedq_worker.limiter.exchange import CallOutcome, Limits
from tests.support.fleet import ANSWERED, BULK, LIVE, QUERY, UNUSED, Fleet, Process, at
from tests.support.holders import Watch

LEASE = 6.0
OUTCOMES = (ANSWERED, UNUSED, CallOutcome("neutral"), CallOutcome("dropped"))


class Chaos:
    """Random things that happen to processes."""

    def __init__(self, fleet: Fleet, rng: random.Random) -> None:
        self.ended = 0
        self._fleet = fleet
        self._rng = rng
        self._deeds: list[Callable[[Process], None]] = [
            *[self._want] * 3,
            *[self._end] * 4,
            self._stop,
            self._lose,
        ]

    def step(self) -> None:
        """One of them, and then a while."""
        self._rng.choice(self._deeds)(self._rng.choice(self._fleet.processes))
        self._fleet.run(self._rng.choice([0.0, 0.001, 0.01, 0.1, 0.5, 2.0]))

    def _want(self, process: Process) -> None:
        process.want(self._rng.choice([0, 1, 2, 5, 32]), self._rng.choice([QUERY, LIVE, BULK]))

    def _end(self, process: Process) -> None:
        if process.is_up:
            for grant in process.holding[: self._rng.choice([1, 1, 20])]:
                outcome = self._rng.choice(OUTCOMES)
                self.ended += outcome is not UNUSED
                process.end(grant, outcome)

    def _stop(self, process: Process) -> None:
        process.is_up = not process.is_up

    def _lose(self, process: Process) -> None:
        process.losses = self._rng.choices(["request", "answer"], k=self._rng.randint(1, 2))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 8), number=st.integers(1, 4))
def test_never_more_live_holders_than_the_limit(broker_url: str, seed: int, limit: int, number: int) -> None:
    """Over processes that come and go, and exchanges lost on either way; at the end nothing is left over."""
    with Fleet(broker_url, lease=LEASE) as fleet:
        Watch(fleet, limit)
        chaos = Chaos(fleet, random.Random(seed))
        for _ in range(number):
            fleet.process(Limits(limit, concurrency="fixed")).want(5)
        for _ in range(80):
            chaos.step()
        for process in fleet.processes:
            process.is_up, process.losses = True, []
            for flow in (QUERY, LIVE, BULK):
                process.want(0, flow)
        fleet.run(5)
        held = {grant.holder for process in fleet.processes for grant in process.holding}
        assert fleet.leases() == held
        assert int(fleet.state().get("calls", 0)) <= chaos.ended


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 8))
def test_redis_may_lose_its_memory(broker_url: str, seed: int, limit: int) -> None:
    """Where all knew the old one: no live holder is forgotten, and after a lease the calls go on."""
    rng = random.Random(seed)
    with Fleet(broker_url, lease=LEASE) as fleet:
        watch = Watch(fleet, limit)
        processes = [fleet.process(Limits(limit, concurrency="fixed")) for _ in range(3)]
        for process in processes:
            process.want(5)
        fleet.run(rng.random() * 3)
        fleet.redis.flushdb()
        lost_at = fleet.now
        for _ in range(20):
            process = rng.choice(processes)
            process.want(rng.randint(1, 5))
            for grant in process.holding[:1]:
                process.end(grant)
            fleet.run(rng.random())
        fleet.run(10)
        for process in processes:
            process.end_all()
            process.want(5)
        fleet.run(5)
        after = [at(grant) for _, grant in fleet.grants if at(grant) > lost_at]
        assert after[0] - lost_at > LEASE - 0.001  # whole milliseconds
        assert watch.count() == limit


def test_who_was_idle_brings_no_hold_later(broker_url: str) -> None:
    """Redis lost its memory ten minutes ago; a process that has not said a word since holds nobody up."""
    limits = Limits(4, concurrency="fixed")
    with Fleet(broker_url) as fleet:
        idle = fleet.process(limits)
        idle.want(1)
        fleet.settle()
        idle.end_all()
        fleet.settle()
        fleet.redis.flushdb()
        busy = fleet.process(limits)
        busy.want(1)
        fleet.run(600)
        idle.want(1)
        fleet.settle()
        assert busy.holding
        assert idle.holding


def test_a_fresh_memory_grants_at_once(broker_url: str) -> None:
    """Nobody knows an older one."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(2))
        process.want(2)
        fleet.settle()
        assert len(process.holding) == 2


def test_a_call_in_flight_is_entered_again(broker_url: str) -> None:
    """At the next word of its process."""
    with Fleet(broker_url, lease=LEASE) as fleet:
        process = fleet.process(Limits(2))
        process.want(1)
        fleet.settle()
        fleet.redis.flushdb()
        fleet.run(1.1)
        assert fleet.leases() == {process.holding[0].holder}


def test_a_slot_is_handed_over(broker_url: str) -> None:
    """The process that waits has it as soon as its own word is heard."""
    with Fleet(broker_url) as fleet:
        first, second = (fleet.process(Limits(1)) for _ in range(2))
        first.want(1)
        fleet.settle()
        second.want(1)
        fleet.settle()
        first.end_all()
        fleet.run(0.003)
        assert len(second.holding) == 1
        assert fleet.leases() == {second.holding[0].holder}


def test_a_slot_that_is_not_confirmed_goes_to_another(broker_url: str) -> None:
    """After a second."""
    with Fleet(broker_url) as fleet:
        first, dead, third = (fleet.process(Limits(1)) for _ in range(3))
        for process in (first, dead, third):
            process.want(1)
            fleet.settle()
        dead.is_up = False
        first.end_all()
        began = fleet.now
        fleet.run(0.9)
        assert not third.holding
        fleet.run(1.2)
        assert 1.0 <= at(third.holding[0]) - began < 2.1


def test_a_slot_that_is_confirmed_too_late_is_not_used(broker_url: str) -> None:
    """Its process was stopped for a while and goes on."""
    with Fleet(broker_url) as fleet:
        first, stopped, third = (fleet.process(Limits(1)) for _ in range(3))
        for process in (first, stopped, third):
            process.want(1)
            fleet.settle()
        stopped.is_up = False
        first.end_all()
        fleet.run(2.5)
        assert third.holding
        stopped.is_up = True
        fleet.run(1)
        assert not stopped.holding
        assert fleet.leases() == {third.holding[0].holder}


def test_a_slot_handed_over_to_who_heard_nothing_leaves_no_trace(broker_url: str) -> None:
    """An exchange was lost, so that it begins anew before it looks into its mailbox."""
    with Fleet(broker_url) as fleet:
        first, second = (fleet.process(Limits(1, requests_per_minute=600)) for _ in range(2))
        first.want(1)
        fleet.settle()
        second.want(1)
        fleet.settle()
        fleet.deliver = lambda: None  # type: ignore[method-assign]  # nobody looks
        first.end_all()
        first.exchange()
        assert fleet.redis.hlen("embedq:model:m:handed") == 1
        second.position.lost(second.position.compose())
        second.want(0)
        second.exchange()
        assert fleet.leases() == set()
        assert fleet.redis.hlen("embedq:model:m:handed") == 0
        assert fleet.redis.hget("embedq:model:m:spent", "requests") == b"1"


def test_a_dead_process_is_handed_nothing_after_three_seconds(broker_url: str) -> None:
    """Its claims are let go, and the slots go on without a gap."""
    with Fleet(broker_url) as fleet:
        first, dead, third = (fleet.process(Limits(1)) for _ in range(3))
        for process in (first, dead, third):
            process.want(32)
            fleet.settle()
        dead.is_up = False
        fleet.run(3.1)
        first.want(0)
        first.end_all()
        fleet.settle()
        assert third.holding


def test_a_lapsed_lease_is_free_at_that_moment(broker_url: str) -> None:
    """Who waits is told when to ask."""
    with Fleet(broker_url, lease=LEASE) as fleet:
        dead, alive = fleet.process(Limits(1)), fleet.process(Limits(1))
        dead.want(1)
        fleet.settle()
        dead.is_up = False
        alive.want(1)
        fleet.run(LEASE + 0.1)
        assert alive.holding
        assert LEASE <= at(alive.holding[0]) - at(dead.holding[0]) < LEASE + 0.01


def test_a_call_that_ended_after_its_lease_is_not_settled(broker_url: str) -> None:
    """Its slot was another's already; that one keeps it."""
    with Fleet(broker_url, lease=LEASE) as fleet:
        stopped, alive = fleet.process(Limits(1)), fleet.process(Limits(1))
        stopped.want(1)
        fleet.settle()
        stopped.is_up = False
        alive.want(1)
        fleet.run(LEASE + 1)
        stopped.end_all()
        stopped.is_up = True
        fleet.run(1)
        assert fleet.leases() == {alive.holding[0].holder}
        assert "calls" not in fleet.state()


def test_failures_that_are_told_twice_count_once(broker_url: str) -> None:
    """The answer was lost after the script had heard of them."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(20))
        process.want(1)
        fleet.settle()
        process.losses = ["answer"]
        process.end_all(CallOutcome("failed", why="HTTP 500"))
        fleet.run(2)
        assert fleet.state()["failed"] == "1"
        assert fleet.state()["failures"] == "1"
