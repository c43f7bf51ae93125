"""Turns: lanes by weight, collections in fair shares of tokens, processes of a collection in turn."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from embedq.contract import Lane
from embedq_worker.limiter.exchange import CallOutcome, Flow, Grant, Limits
from tests.support.fleet import ANSWERED, BULK, LIVE, QUERY, Endless, Fleet, Process, at

FOUR = Limits(4, concurrency="fixed")


def bulk(collection: str) -> Flow:
    """Its lane for loads."""
    return Flow("bulk", collection)


def tokens_of(fleet: Fleet, since: float = 0.0) -> Counter[str]:
    """Tokens granted to each collection since then."""
    found: Counter[str] = Counter()
    for _, grant in fleet.grants:
        if at(grant) >= since:
            found[grant.collection] += grant.tokens
    return found


def lanes_of(fleet: Fleet) -> dict[Lane, float]:
    """The part of the calls that each lane had."""
    found = Counter(grant.lane for _, grant in fleet.grants)
    return {lane: number / len(fleet.grants) for lane, number in found.items()}


@pytest.mark.parametrize("in_one_process", [True, False])
def test_two_collections_share_tokens(broker_url: str, in_one_process: bool) -> None:
    """Equally, whatever the size of their requests."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.2)
        first = fleet.process(FOUR)
        second = first if in_one_process else fleet.process(FOUR)
        endless.add(first, bulk("small"), tokens=200)
        endless.add(second, bulk("large"), tokens=3_000)
        fleet.run(30)
        shares = tokens_of(fleet)
    assert shares["small"] == pytest.approx(shares["large"], rel=0.15)


def test_shares_are_by_collection_and_not_by_process(broker_url: str) -> None:
    """A collection that three processes serve gets no more than one that one serves."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.2)
        for _ in range(3):
            endless.add(fleet.process(FOUR), bulk("wide"), tokens=100)
        endless.add(fleet.process(FOUR), bulk("narrow"), tokens=100)
        fleet.run(20)
        shares = tokens_of(fleet)
    assert shares["wide"] == pytest.approx(shares["narrow"], rel=0.1)


def test_shares_are_of_what_was_used(broker_url: str) -> None:
    """Reserved alike, but one uses a tenth of it, and so may make about ten times as many calls."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.2)
        endless.outcome = lambda _, grant: used(grant, 100 if grant.collection == "short" else 1_000)
        process = fleet.process(FOUR)
        endless.add(process, bulk("short"), tokens=1_000)
        endless.add(process, bulk("long"), tokens=1_000)
        fleet.run(60)
        calls = fleet.granted_since(0)
    assert calls[bulk("short")] / calls[bulk("long")] == pytest.approx(10, rel=0.25)


def used(grant: Grant, tokens: int) -> CallOutcome:
    """An answer that used so many."""
    return CallOutcome("answered", tokens=tokens, shares={grant.collection: tokens})


def test_room_that_another_collection_fills_is_paid_by_it(broker_url: str) -> None:
    """A request of one carries texts of another: each pays its own."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.2)

        def outcome(_: Process, grant: Grant) -> CallOutcome:
            both = {"guest": 500, "host": 500}
            return (
                used(grant, 1000)
                if grant.collection == "guest"
                else CallOutcome("answered", tokens=1000, shares=both)
            )

        endless.outcome = outcome
        process = fleet.process(FOUR)
        for collection in ("host", "guest"):
            endless.add(process, bulk(collection), tokens=1_000)
        fleet.run(60)
        calls = fleet.granted_since(0)
    # each pays 500 for a call of host's, so that guest has had its share without a call of its own
    assert calls[bulk("host")] > 10 * calls[bulk("guest")]


def test_zipf(broker_url: str) -> None:
    """Ten collections with very different backlogs: none waits twice as long as a tenth would take it."""
    with Fleet(broker_url) as fleet:
        processes = [fleet.process(FOUR) for _ in range(4)]
        left = {f"c{rank}": 400 // rank for rank in range(1, 11)}
        all_calls = sum(left.values())
        backlog, done_at = dict(left), dict.fromkeys(left, 0.0)
        waiting = {(process, name): backlog[name] // 4 for process in processes for name in backlog}

        def granted(process: Process, grant: Grant) -> None:
            fleet.after(0.1, partial(process.end, grant, ANSWERED))
            done_at[grant.collection] = at(grant)
            waiting[process, grant.collection] -= 1
            process.want(min(32, waiting[process, grant.collection]), grant.flow, grant.tokens)

        fleet.on_grant = granted
        for (process, name), calls in waiting.items():
            process.want(min(32, calls), bulk(name), 100)
        fleet.run(all_calls * 0.1 / 4 * 1.2)
    assert not any(waiting.values())
    for name, calls in backlog.items():
        assert done_at[name] <= 2 * max(1.0, calls * 10 * 0.1 / 4), name


def test_coming_back_earns_nothing_and_costs_nothing(broker_url: str) -> None:
    """A collection that was away for long shares equally from then on."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.2)
        process = fleet.process(FOUR)
        endless.add(process, bulk("stays"), tokens=100)
        endless.add(process, bulk("leaves"), tokens=100)
        fleet.run(20)
        endless.stop(process, bulk("leaves"))
        fleet.run(20)
        endless.add(process, bulk("leaves"), tokens=100)
        back_at = fleet.now
        fleet.run(4)
        shares = tokens_of(fleet, back_at)
    assert shares["leaves"] == pytest.approx(shares["stays"], rel=0.15)


def test_a_pause_of_a_moment_does_not_win_a_turn(broker_url: str) -> None:
    """A collection that has had its share cannot jump the queue by leaving it for a moment."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.2)
        process = fleet.process(FOUR)
        endless.add(process, bulk("stays"), tokens=100)
        endless.add(process, bulk("hops"), tokens=10_000, calls=1)  # its claim is gone with each grant
        fleet.run(60)
        shares = tokens_of(fleet)
    assert shares["hops"] <= shares["stays"] * 1.2 + 2 * 10_000


@pytest.mark.parametrize("calls", [32, 2, 1])
def test_no_process_is_starved_by_another(broker_url: str, calls: int) -> None:
    """Two processes of one collection, however many calls they ask for at once."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.2)
        processes = [fleet.process(Limits(1)) for _ in range(2)]
        for process in processes:
            endless.add(process, calls=calls)
        fleet.run(60)
        served = Counter(process.name for process, _ in fleet.grants)
    assert min(served[process.name] for process in processes) >= 0.35 * sum(served.values())


def test_lanes_under_floods_of_all(broker_url: str) -> None:
    """Query before live before bulk; bulk has a call in twenty, live a fifth of what it shares with query."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.1)
        for _ in range(2):
            process = fleet.process(FOUR)
            for flow in (QUERY, LIVE, BULK):
                endless.add(process, flow)
        fleet.run(20)
        shares = lanes_of(fleet)
    assert 0.048 <= shares["bulk"] <= 0.06
    assert 0.195 <= shares["live"] / (shares["live"] + shares["query"]) <= 0.21
    assert shares["query"] >= 0.72


@pytest.mark.parametrize(("lane", "least"), [("live", 0.19), ("bulk", 0.048)])
def test_no_lane_is_starved_by_queries(broker_url: str, lane: Lane, least: float) -> None:
    """Also when the queries are another process's."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.1)
        endless.add(fleet.process(FOUR), QUERY)
        endless.add(fleet.process(FOUR), Flow(lane, "docs"))
        fleet.run(20)
        shares = lanes_of(fleet)
    assert least <= shares[lane] <= least * 1.2


def test_live_goes_before_bulk(broker_url: str) -> None:
    """All but one call in twenty."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.1)
        process = fleet.process(FOUR)
        endless.add(process, LIVE)
        endless.add(process, BULK)
        fleet.run(20)
        shares = lanes_of(fleet)
    assert 0.94 <= shares["live"] <= 0.952


def test_a_query_is_next(broker_url: str) -> None:
    """Under a bulk flood of other processes that hold all the slots: the first slot that is free is its."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.2)
        for _ in range(2):
            endless.add(fleet.process(FOUR))
        asking = fleet.process(FOUR)
        for _ in range(25):
            fleet.run(0.731)
            asked_at = fleet.now
            asking.want(1, QUERY)
            fleet.run(0.25)
            later = [(process, grant) for process, grant in fleet.grants if at(grant) > asked_at + 0.001]
            order = sorted(later, key=lambda entry: entry[1].at)
            assert order[0][0] is asking
            assert at(order[0][1]) - asked_at <= 0.21


def test_a_lane_that_was_alone_for_long_owes_nothing(broker_url: str) -> None:
    """Bulk alone for a while: it has its one call in twenty soon after queries come."""
    with Fleet(broker_url) as fleet:
        endless = Endless(fleet, 0.1)
        process = fleet.process(FOUR)
        endless.add(process, BULK)
        fleet.run(20)
        endless.add(process, QUERY)
        began_at = fleet.now
        fleet.run(5)
        counts = fleet.granted_since(began_at + 0.1)
    assert counts[BULK] / counts.total() >= 0.035
