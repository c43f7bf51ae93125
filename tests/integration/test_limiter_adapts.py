"""Adaptive concurrency: the limit finds what a service takes, keeps it, and rises again when it may."""

from __future__ import annotations

import random
from functools import partial
from statistics import median

from embedq_worker.limiter.exchange import CallOutcome, Grant, Limits
from tests.support.fleet import ANSWERED, Endless, Fleet, Process, at

THROTTLED = CallOutcome("throttled", why="429")


class Service:
    """Takes so many calls at once, each for about a second, and refuses more within 50 ms."""

    def __init__(self, fleet: Fleet, capacity: int) -> None:
        self.capacity = capacity
        self.in_flight = 0
        self.calls: list[float] = []
        self.refusals: list[float] = []
        self._fleet = fleet
        self._rng = random.Random(5)
        fleet.on_grant = self._called

    def refused_share(self, since: float) -> float:
        """The part of the calls since then that was refused."""
        return sum(when > since for when in self.refusals) / sum(when > since for when in self.calls)

    def _called(self, process: Process, grant: Grant) -> None:
        process.want(32)
        self.calls.append(at(grant))
        if self.in_flight >= self.capacity:
            self.refusals.append(at(grant))
            self._fleet.after(0.05, partial(process.end, grant, THROTTLED))
            return
        self.in_flight += 1
        self._fleet.after(self._rng.uniform(0.8, 1.2), partial(self._answer, process, grant))

    def _answer(self, process: Process, grant: Grant) -> None:
        self.in_flight -= 1
        process.end(grant)


def test_it_finds_a_hidden_limit_and_keeps_it(broker_url: str) -> None:
    """12 of 64: within 30 s the median is 10 to 12, then refusals are rare, and the service is kept busy."""
    with Fleet(broker_url) as fleet:
        service = Service(fleet, 12)
        for _ in range(3):
            fleet.process(Limits(64)).want(32)
        fleet.run(30)
        slots = []
        for _ in range(120):
            fleet.run(1)
            slots.append(int(fleet.limit()))
    assert 10 <= median(slots) <= 12
    assert all(9 <= number <= 13 for number in slots[5:])
    assert service.refused_share(since=35) < 0.01
    assert sum(when > 30 for when in service.calls) > 120 * 9.5


def test_it_rises_when_the_hidden_limit_is_lifted(broker_url: str) -> None:
    """To the configured number, and then nothing is remembered."""
    with Fleet(broker_url) as fleet:
        service = Service(fleet, 12)
        for _ in range(2):
            fleet.process(Limits(64)).want(32)
        fleet.run(20)
        assert fleet.limit() < 20
        service.capacity = 1_000
        fleet.run(90)
        assert service.in_flight == 64
        assert "limit" not in fleet.state()


def test_it_is_cut_once_a_round_trip(broker_url: str) -> None:
    """Calls that were in flight together are refused together; that says no more than one refusal."""
    with Fleet(broker_url) as fleet:
        first, second = fleet.process(Limits(20)), fleet.process(Limits(20))
        for process in (first, second):
            process.want(10)
            fleet.settle()
        assert len(first.holding) + len(second.holding) == 20
        for process in (first, second):
            for grant in process.holding:
                process.end(grant, THROTTLED)
                fleet.settle()
        assert fleet.limit() == 14
        first.want(1)
        fleet.settle()
        first.end_all(THROTTLED)
        fleet.settle()
        assert fleet.limit() < 14


def test_a_slow_service_is_asked_less(broker_url: str) -> None:
    """503 and time-outs cut as 429 does."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(10))
        process.want(1)
        fleet.settle()
        process.end_all(CallOutcome("overloaded", why="503"))
        fleet.settle()
        assert fleet.limit() == 7


def test_failures_do_not_cut(broker_url: str) -> None:
    """A broken connection says nothing about how many calls are too many."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(10))
        process.want(1)
        fleet.settle()
        process.end_all(CallOutcome("failed", why="500"))
        fleet.settle()
        assert "limit" not in fleet.state()


def test_refusals_without_an_answer_back_off(broker_url: str) -> None:
    """A service that refuses everything is asked less and less, up to every 30 s, by nobody more."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, seconds=0.1)
        endless.outcome = lambda *_: THROTTLED
        for _ in range(3):
            endless.add(fleet.process(Limits(4)))
        fleet.run(300)
        late = [at(grant) for _, grant in fleet.grants if at(grant) > 200]
    assert 2 <= len(late) <= 6
    assert fleet.now - late[-1] < 35


def test_a_fixed_limit_does_not_adapt(broker_url: str) -> None:
    """It is asked less for a moment, but never for fewer at once."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(20, concurrency="fixed"))
        process.want(20)
        fleet.settle()
        process.end_all(THROTTLED)
        process.want(20)
        fleet.run(1)
        assert len(process.holding) == 20
        assert process.position.slots == 20


def test_limits_set_for_the_running_fleet(broker_url: str) -> None:
    """Lower and higher than the file's, at once; calls in flight end in peace."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet)
        processes = [fleet.process(Limits(8)) for _ in range(2)]
        for process in processes:
            endless.add(process)

        def in_flight() -> int:
            return sum(len(process.holding) for process in processes)

        fleet.run(3)
        assert in_flight() == 8
        fleet.set(max_concurrency=2)
        fleet.run(3)
        assert in_flight() == 2
        fleet.set(max_concurrency=20)
        fleet.run(3)
        assert in_flight() == 20
        fleet.set(concurrency="fixed")
        endless.outcome = lambda *_: THROTTLED
        fleet.run(1.5)
        assert processes[0].position.slots == 20
        endless.outcome = lambda *_: ANSWERED
        fleet.redis.delete("embedq:model:m:settings")
        fleet.run(5)
        assert in_flight() <= 8
