"""Requests and tokens a minute: no sliding minute exceeds them, and a busy fleet uses nearly all of them."""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedq_worker.limiter.exchange import CallOutcome, Grant, Limits, Reply, Request
from tests.support.callers import callers
from tests.support.fleet import BULK, LIVE, QUERY, UNUSED, Endless, Fleet, Process, at

FLOWS = (QUERY, LIVE, BULK)
MANY = 1000

limits_of_rates = st.builds(
    Limits,
    st.just(MANY),
    requests_per_minute=st.none() | st.integers(1, 60),
    tokens_per_minute=st.none() | st.integers(1, 10_000),
    concurrency=st.just("fixed"),
)


class Sliding:
    """What was granted and is known of it, checked at each grant against the minute before."""

    def __init__(self, fleet: Fleet, limits: Limits) -> None:
        self._minute = fleet.minute
        self._limits = limits
        self._calls: dict[str, tuple[float, int]] = {}
        fleet.on_heard = self._heard

    def _heard(self, _: Process, request: Request, reply: Reply) -> None:
        """In the order of the script: first what ended, then what is granted."""
        for call in request.ended:
            if call.outcome == "unused":
                self._calls.pop(call.holder, None)
            elif call.holder in self._calls and call.tokens is not None:
                self._calls[call.holder] = (self._calls[call.holder][0], call.tokens)
        for grant in reply.grants:
            self._calls[grant.holder] = (at(grant), grant.tokens)
            self._check(at(grant))

    def _check(self, now: float) -> None:
        within = [tokens for when, tokens in self._calls.values() if when > now - self._minute]
        allowed = self._limits.requests_per_minute
        assert allowed is None or len(within) <= allowed
        allowed = self._limits.tokens_per_minute
        alone = sum(tokens > 0 for tokens in within) == 1
        assert allowed is None or sum(within) <= allowed or alone


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=limits_of_rates, seed=st.integers(0, 2**32), largest=st.sampled_from([0.02, 0.1, 0.6, 1.5]))
def test_no_sliding_minute_exceeds_them(broker_url: str, limits: Limits, seed: int, largest: float) -> None:
    """Whatever comes when: calls of any size, that used more or less than was reserved, or were not made."""
    rng = random.Random(seed)
    with Fleet(broker_url, minute=6.0) as fleet:
        Sliding(fleet, limits)
        process = fleet.process(limits)
        most = max(1, int((limits.tokens_per_minute or 1000) * largest))
        fleet.on_grant = lambda one, grant: fleet.after(rng.expovariate(3), partial(end, one, grant, rng))
        for _ in range(30):
            process.want(rng.randint(0, 10), rng.choice(FLOWS), rng.randint(0, most))
            fleet.run(rng.expovariate(2))


def end(process: Process, grant: Grant, rng: random.Random) -> None:
    """A call that used about what was reserved, or less, or was not made."""
    used = round(grant.tokens * rng.choice([0.1, 0.8, 1.0, 1.0, 1.3]))
    process.end(grant, rng.choice([UNUSED, CallOutcome("answered"), CallOutcome("answered", tokens=used)]))


@pytest.mark.parametrize(
    ("requests", "tokens"), [(120, None), (None, 400_000), (90, 400_000), (240, 400_000)]
)
def test_a_busy_fleet_uses_them(broker_url: str, requests: int | None, tokens: int | None) -> None:
    """At least 95 % of what holds it, in the two minutes after the first, with estimates too high."""
    rng = random.Random(1)
    limits = Limits(MANY, requests, tokens, concurrency="fixed")
    with Fleet(broker_url, minute=20) as fleet:
        endless = Endless(fleet, seconds=0.5)
        used: list[tuple[float, int]] = []

        def outcome(_: Process, grant: Grant) -> CallOutcome:
            used.append((at(grant), round(grant.tokens * rng.uniform(0.85, 1.0))))
            return CallOutcome("answered", tokens=used[-1][1])

        endless.outcome = outcome
        for _ in range(4):
            endless.add(fleet.process(limits), tokens=4_000)
        fleet.run(60)
    late = [tokens for when, tokens in used if when > 20]
    shares = [len(late) / (2 * requests) if requests else 0, sum(late) / (2 * tokens) if tokens else 0]
    assert 0.95 <= max(shares) <= 1.0
    assert all(busiest(used, which) <= (limit or 10**9) for which, limit in enumerate((requests, tokens)))


def busiest(calls: list[tuple[float, int]], which: int) -> int:
    """The most requests (0) or tokens (1) in any minute of 20 seconds."""
    amounts = sorted((when, tokens if which else 1) for when, tokens in calls)
    most = total = first = 0
    for when, amount in amounts:
        total += amount
        while amounts[first][0] <= when - 20:
            total -= amounts[first][1]
            first += 1
        most = max(most, total)
    return most


def test_they_are_spread_over_the_minute(broker_url: str) -> None:
    """A bulk load does not take the minute's allowance in its first second."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet)
        endless.add(fleet.process(Limits(MANY, 600)))
        fleet.run(40)
        times = [at(grant) for _, grant in fleet.grants]
    assert sum(when < 1 for when in times) < 600 * 0.04
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) < 0.3


def test_a_query_does_not_wait_for_the_pace(broker_url: str) -> None:
    """While a bulk load of another process uses the minute, three queries in a row are granted at once."""
    limits = Limits(MANY, 600, 600_000)
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, seconds=0.2)
        endless.add(fleet.process(limits), tokens=1_000)
        asking = fleet.process(limits)
        fleet.run(75.03)
        for _ in range(3):
            asked_at = fleet.now
            asking.want(1, QUERY, tokens=10)
            fleet.run(0.05)
            asker, given = query_of(fleet)
            assert asker is asking
            assert -0.001 < at(given) - asked_at < 0.005


def query_of(fleet: Fleet) -> tuple[Process, Grant]:
    """The query that was granted last."""
    return next(entry for entry in reversed(fleet.grants) if entry[1].flow == QUERY)


def test_a_bulk_request_that_waits_for_the_pace_does_not_hold_up_queries(broker_url: str) -> None:
    """Also when bulk has not had its share of the calls, because its requests are so large."""
    limits = Limits(MANY, None, 1_000_000)
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, seconds=0.2)
        endless.add(fleet.process(limits), tokens=20_000)
        asking = fleet.process(limits)
        fleet.run(120)
        waits = []
        for _ in range(60):
            asked_at = fleet.now
            asking.want(1, QUERY, tokens=10)
            fleet.run(0.1)
            while fleet.granted_since(asked_at)[QUERY] == 0:
                fleet.run(0.1)
            waits.append(at(query_of(fleet)[1]) - asked_at)
    assert max(waits) < 0.1


def test_a_request_larger_than_the_minute_goes_alone(broker_url: str) -> None:
    """It is made, when nothing else was for a minute, and nothing else is for a minute."""
    limits = Limits(MANY, None, 1_000)
    with Fleet(broker_url) as fleet:
        process = fleet.process(limits)
        fleet.on_grant = lambda one, grant: one.end(grant)
        process.want(1, tokens=100)
        fleet.settle()
        process.want(1, tokens=5_000)
        fleet.run(62)
        process.want(1, tokens=100)
        fleet.run(400)
        small, large, next_one = [at(grant) for _, grant in fleet.grants]
    assert 60 <= large - small < 62
    assert next_one - large >= 60


def test_an_unused_grant_is_given_back(broker_url: str) -> None:
    """Its request and its tokens may be another's in the same minute."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(MANY, 1, 100))
        fleet.on_grant = lambda one, grant: one.end(
            grant, UNUSED if len(fleet.grants) < 3 else CallOutcome("answered")
        )
        process.want(5, tokens=100)
        fleet.run(50)
        assert len(fleet.grants) == 3


def test_more_than_was_reserved_is_made_up_for(broker_url: str) -> None:
    """Ten times the estimate: what the minute allows is used up."""
    with Fleet(broker_url) as fleet:
        process = fleet.process(Limits(MANY, None, 1_000))
        fleet.on_grant = lambda one, grant: one.end(grant, CallOutcome("answered", tokens=grant.tokens * 10))
        process.want(2, tokens=100)
        fleet.run(59)
        assert len(fleet.grants) == 1
        fleet.run(10)
        assert len(fleet.grants) == 2


def test_rates_set_for_the_running_fleet(broker_url: str) -> None:
    """They win over the files' at the next exchange; 0 lifts a limit."""
    with Fleet(broker_url, minute=30) as fleet:
        endless = Endless(fleet, seconds=0.1)
        endless.add(fleet.process(Limits(8, 30, concurrency="fixed")))
        fleet.run(60)
        slow = fleet.granted_since(30)[BULK]
        fleet.set(requests_per_minute=300)
        fleet.run(30)
        fast = fleet.granted_since(60)[BULK]
        fleet.set(requests_per_minute=0)
        fleet.run(5)
        free = fleet.granted_since(90)[BULK]
    assert 28 <= slow <= 30
    assert 270 <= fast <= 300
    assert free >= 350


@pytest.mark.parametrize("slip", ["inf", "nan", "1.5", "-1", "1e30", "0x10", "9" * 20, " 7", "none", ""])
def test_what_no_limit_can_be_is_passed_over(broker_url: str, slip: str) -> None:
    """Whoever wrote it into Redis by hand: calls go on under the file's limits."""
    with Fleet(broker_url) as fleet:
        fleet.set(max_concurrency=slip, requests_per_minute=slip, tokens_per_minute=slip, concurrency=slip)
        process = fleet.process(Limits(2, 600, 6_000))
        process.want(3, tokens=1)
        fleet.settle()
        assert len(process.holding) == 2
        position = process.position
        assert (position.slots, position.requests_per_minute, position.tokens_per_minute) == (2, 600, 6_000)


async def test_they_hold_by_the_servers_clock(broker_url: str) -> None:
    """Two processes on the real clock, with minutes of three seconds."""
    limits = Limits(MANY, 90, 9_000, concurrency="fixed")
    async with callers(broker_url, 2, limits, minute=3.0) as found:
        times: list[float] = []
        found[0].want(32, tokens=100)
        found[1].want(32, tokens=100)
        while not times or times[-1] < times[0] + 4_500:
            for caller in found:
                while not caller.grants.empty():
                    grant = caller.grants.get_nowait()
                    times.append(grant.at)
                    caller.release(grant, tokens=100)
                    caller.want(32, tokens=100)
            times.sort()
            given = await found[0].grant()
            times.append(given.at)
            found[0].release(given, tokens=100)
            found[0].want(32, tokens=100)
        busiest_three = max(sum(0 <= when - start < 3_000 for when in times) for start in times)
    assert busiest_three <= 90
    assert sum(when - times[0] < 4_500 for when in times) >= 90 * 1.5 * 0.85
