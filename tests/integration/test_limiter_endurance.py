"""What must not happen after hours: a lane that stands still, a debt without end, a forgotten process."""

from __future__ import annotations

from collections import Counter

from embedq_worker.limiter.exchange import CallOutcome, Flow, Limits
from tests.support.fleet import BULK, LIVE, QUERY, Endless, Fleet

MINUTE = 6.0
"""Seconds; ten times as fast as a real one."""


def test_queries_at_the_limit_starve_nobody(broker_url: str) -> None:
    """Also where requests a minute, and not slots, are what all of them share."""
    with Fleet(broker_url, minute=MINUTE) as fleet:
        process = fleet.process(Limits(16, requests_per_minute=60))
        endless = Endless(fleet, 0.05)
        for flow in (QUERY, LIVE, BULK):
            endless.add(process, flow, calls=5)
        fleet.run(20 * MINUTE)
        given = fleet.granted_since(2 * MINUTE)
        endless.stop(process, QUERY)
        stopped_at = fleet.now
        fleet.run(2 * MINUTE)
        after = fleet.granted_since(stopped_at)
    assert given[BULK] >= 0.04 * given.total()
    assert given[LIVE] >= 0.1 * given.total()
    assert after[BULK] + after[LIVE] >= 0.9 * 60


def test_a_text_of_a_whole_minute_does_not_stop_the_others(broker_url: str) -> None:
    """The limit was lowered below one text, and a query now and then keeps the window from being empty."""
    large = Flow("bulk", "large")
    with Fleet(broker_url, minute=MINUTE) as fleet:
        process = fleet.process(Limits(16, tokens_per_minute=5_000))
        endless = Endless(fleet, 0.05)

        def ask() -> None:
            process.want(1, QUERY, tokens=10)
            fleet.after(MINUTE / 3, ask)

        ask()
        fleet.run(0.5)
        endless.add(process, large, tokens=8_000, calls=1)
        endless.add(process, BULK, tokens=50, calls=5)
        endless.add(process, LIVE, tokens=50, calls=5)
        fleet.run(30 * MINUTE)
        given = fleet.granted_since(0)
        late = fleet.granted_since(20 * MINUTE)
    assert given[large] >= 1
    assert all(late[flow] >= 20 for flow in (BULK, LIVE, QUERY))


def test_a_debt_under_another_limit_is_forgotten(broker_url: str) -> None:
    """A limit set a thousand times too low by mistake, and set right a second later."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(16, tokens_per_minute=1_000_000))
        process.want(16, tokens=100)
        fleet.run(1)
        fleet.set(tokens_per_minute=100)
        process.end_all(CallOutcome("answered", tokens=1_100))
        fleet.run(1)
        fleet.set(tokens_per_minute=1_000_000)
        process.want(5, tokens=100)
        corrected_at = fleet.now
        fleet.run(5)
        assert fleet.granted_since(corrected_at)[BULK] == 5


def test_a_nonsense_usage_is_over_in_a_minute(broker_url: str) -> None:
    """A service that says two billion tokens once does not stop its model for a day."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(16, tokens_per_minute=1_000_000))
        process.want(1, tokens=100)
        fleet.settle()
        process.end_all(CallOutcome("answered", tokens=2**31 - 1))
        process.want(1, tokens=100)
        fleet.run(61)
        assert len(fleet.grants) == 2


def test_a_new_spell_of_work_begins_even(broker_url: str) -> None:
    """What processes were granted in an earlier one does not count any more."""
    with Fleet(broker_url) as fleet:
        first, second = (fleet.process(Limits(2)) for _ in range(2))
        endless = Endless(fleet, 0.1)
        endless.add(first, calls=5)
        endless.add(second, calls=5)
        fleet.run(30)
        endless.stop(first)
        endless.stop(second)
        fleet.run(5)
        before = len(fleet.grants)
        endless.add(second, calls=5)
        fleet.run(0.05)
        endless.add(first, calls=5)
        fleet.run(20)
        made = Counter(process.name for process, _ in fleet.grants[before:])
    assert abs(made[first.name] - made[second.name]) < 0.1 * made.total()


def test_short_lived_processes_leave_nothing(broker_url: str) -> None:
    """An autoscaled fleet does not fill Redis."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.5)
        endless.add(fleet.process(Limits(8)))
        fleet.run(5)
        before = fleet.redis.dbsize()
        for _ in range(5):
            passing = fleet.process(Limits(8))
            passing.want(2)
            fleet.run(1)
            passing.end_all()
            fleet.run(0.1)
            passing.is_up = False
            fleet.processes.remove(passing)
            fleet.run(30)
            fleet._exchanges = 0
        assert fleet.redis.zcard("embedq:model:m:processes") <= 3
        assert fleet.redis.hlen("embedq:model:m:services:bulk:docs") <= 2
        assert fleet.redis.dbsize() <= before + 3


def test_a_limit_that_was_lowered_for_a_while_keeps_what_was_learned(broker_url: str) -> None:
    """Set back, the fleet goes on where it was, and does not climb from the bottom."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(64))
        endless = Endless(fleet, 1.0)
        endless.add(process, calls=100)
        fleet.run(1.5)
        process.end(process.holding[0], CallOutcome("throttled", why="429"))
        fleet.run(1.5)
        learned = fleet.limit()
        fleet.set(max_concurrency=8)
        fleet.run(20)
        assert process.position.slots == 8
        fleet.set(max_concurrency=64)
        fleet.run(2)
        assert process.position.slots >= int(learned)


def test_who_only_asks_queries_learns_that_a_pause_is_over(broker_url: str) -> None:
    """Its query was refused while the model was paused; then it wants nothing and hears nothing."""
    with Fleet(broker_url) as fleet:
        asking, loading = (fleet.process(Limits(4)) for _ in range(2))
        asking.want(1, QUERY)
        fleet.run(0.01)
        loading.want(10, BULK, 10)
        fleet.settle()
        asking.end(asking.holding[0], CallOutcome("refused", why="the key is refused"))
        asking.want(1, QUERY)
        fleet.settle()
        asking.want(0, QUERY)
        fleet.run(4)
        assert asking.position.paused_until < fleet.now


def test_a_slot_that_is_handed_to_the_dead_is_given_back_whole(broker_url: str) -> None:
    """With its request of the minute; and it is not tried with that process again."""
    with Fleet(broker_url) as fleet:
        alive, dead = (fleet.process(Limits(16, requests_per_minute=600)) for _ in range(2))
        endless = Endless(fleet, 0.5)
        endless.add(alive)
        endless.add(dead)
        fleet.run(20)
        dead.is_up = False
        fleet.run(60)
        died_before = fleet.now - 60
        assert fleet.granted_since(died_before).total() >= 0.95 * 600
