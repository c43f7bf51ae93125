"""The position of a process: what it says to the fleet, and when."""

from __future__ import annotations

from math import inf

import pytest

from embedq_worker.limiter.exchange import CallOutcome, Flow, Grant, Handed, Limits, Reply, Request, Want
from embedq_worker.limiter.position import HEARTBEAT, MOST_WANTED, Position

BULK = Flow("bulk", "docs")
LIVE = Flow("live", "docs")
NOTHING = Want(0, 0)


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """It stands still."""
    return Clock()


@pytest.fixture
def position(clock: Clock) -> Position:
    """Nothing said yet."""
    return Position("p", "m", Limits(8, 600, concurrency="fixed"), lease=30, clock=clock)


def grant(holder: str = "p/e.1", flow: Flow = BULK) -> Grant:
    """A call of the process."""
    return Grant(holder, flow.lane, flow.collection, 10, 1.0)


def say(position: Position, reply: Reply | None = None) -> Request:
    """One exchange; returns what was said."""
    request = position.compose()
    position.apply(request, reply or Reply("e", 8))
    return request


def given(*grants: Grant, epoch: str = "e") -> Reply:
    """An answer with grants."""
    return Reply(epoch, 8, grants=list(grants))


def test_the_first_word_has_all_that_the_script_needs(position: Position) -> None:
    """Milliseconds, and limits that are set."""
    position.want(BULK, Want(3, 10))
    request = say(position)
    assert (request.process, request.model) == ("p", "m")
    assert request.limits == {"max_concurrency": 8, "requests_per_minute": 600, "concurrency": "fixed"}
    assert (request.lease, request.minute, request.epoch, request.resync) == (30_000, 60_000, None, False)
    assert request.wants == [("bulk", "docs", 3, 10)]


def test_idle_is_silent(position: Position, clock: Clock) -> None:
    """Nothing held, nothing wanted: nothing is said."""
    assert position.is_idle
    assert position.due_at() == inf
    position.want(BULK, Want(1, 1))
    say(position, given(grant()))
    position.want(BULK, NOTHING)
    position.end(grant(), CallOutcome("answered"))
    say(position)
    clock.now += 1_000
    assert position.due_at() == inf


def test_a_want_is_told_at_once(position: Position) -> None:
    """Then not again while it is the same."""
    position.want(BULK, Want(3, 10))
    assert position.due_at() == -inf
    say(position)
    position.want(BULK, Want(3, 10))
    assert position.due_at() > 0
    assert position.compose().wants == []


def test_a_few_more_wait_for_the_heartbeat(position: Position, clock: Clock) -> None:
    """Where the fleet knows of enough, so that each new text does not cost an exchange."""
    position.want(BULK, Want(10, 10))
    say(position)
    position.want(BULK, Want(12, 10))
    assert position.due_at() == clock.now + HEARTBEAT
    assert position.compose().wants == [("bulk", "docs", 12, 10)]


def test_the_last_few_are_told_at_once(position: Position) -> None:
    """One more than one: the slot could be free now."""
    position.want(BULK, Want(1, 10))
    say(position)
    position.want(BULK, Want(2, 10))
    assert position.due_at() == -inf


def test_a_heartbeat_tells_everything(position: Position, clock: Clock) -> None:
    """Once a second, while anything is held or wanted."""
    position.want(BULK, Want(3, 10))
    say(position)
    assert position.due_at() == clock.now + HEARTBEAT
    clock.now += HEARTBEAT
    assert say(position).wants == [("bulk", "docs", 3, 10)]


def test_what_is_wanted_no_more_is_told_once(position: Position, clock: Clock) -> None:
    """With no calls."""
    position.want(BULK, Want(3, 10))
    say(position)
    position.want(BULK, NOTHING)
    clock.now += HEARTBEAT
    assert say(position).wants == [("bulk", "docs", 0, 0)]
    assert position.compose().wants == []
    assert position.is_idle


def test_not_too_much_is_told(position: Position) -> None:
    """What a process that dies had claimed is in vain."""
    position.want(BULK, Want(5_000, 10))
    assert say(position).wants == [("bulk", "docs", MOST_WANTED, 10)]


def test_a_grant_counts_down_what_the_fleet_knows(position: Position) -> None:
    """So that the same want, said again, is news."""
    position.want(BULK, Want(3, 10))
    say(position, given(grant()))
    position.want(BULK, Want(2, 10))
    assert position.compose().wants == []
    position.want(BULK, Want(3, 10))
    assert position.compose().wants == [("bulk", "docs", 3, 10)]


def test_ended_calls_are_told_once(position: Position) -> None:
    """At once, with what was reserved and what became of it."""
    position.want(BULK, Want(1, 10))
    say(position, given(grant()))
    position.end(grant(), CallOutcome("answered", tokens=7, shares={"docs": 7}))
    assert position.due_at() == -inf
    (ended,) = say(position).ended
    assert (ended.holder, ended.reserved, ended.tokens, ended.outcome) == ("p/e.1", 10, 7, "answered")
    assert position.compose().ended == []


def test_leases_are_renewed_in_time(position: Position, clock: Clock) -> None:
    """All of them, when a third of a lease has passed, and no call that has ended."""
    position.want(BULK, Want(2, 10))
    say(position, given(grant("p/e.1"), grant("p/e.2")))
    clock.now += 9
    assert say(position).renew == []
    clock.now += 1
    position.end(grant("p/e.1"), CallOutcome("answered"))
    assert say(position).renew == ["p/e.2"]
    assert say(position).renew == []


def test_a_renewal_does_not_name_a_call_that_ended_while_it_was_lost(
    position: Position, clock: Clock
) -> None:
    """The renewal was composed before; what is told next has the end and no renewal."""
    position.want(BULK, Want(1, 10))
    say(position, given(grant()))
    clock.now += 10
    request = position.compose()
    assert request.renew == ["p/e.1"]
    position.end(grant(), CallOutcome("answered"))
    position.lost(request)
    later = position.compose()
    assert later.renew == []
    assert [call.holder for call in later.ended] == ["p/e.1"]


def test_a_lost_request_is_told_again(position: Position) -> None:
    """All that it said, the wants and the holdings, and that the last answer was not heard."""
    position.want(BULK, Want(3, 10))
    say(position, given(grant("p/e.1"), grant("p/e.2")))
    position.end(grant("p/e.1"), CallOutcome("answered"))
    position.lost(position.compose())
    assert position.due_at() == -inf
    again = say(position)
    assert again.resync
    assert [call.holder for call in again.ended] == ["p/e.1"]
    assert again.renew == ["p/e.2"]
    assert again.wants == [("bulk", "docs", 3, 10)]
    assert not position.compose().resync


def test_ended_calls_keep_their_order_when_lost(position: Position) -> None:
    """The first before those that ended since."""
    position.end(grant("p/e.1"), CallOutcome("answered"))
    request = position.compose()
    position.end(grant("p/e.2"), CallOutcome("answered"))
    position.lost(request)
    assert [call.holder for call in position.compose().ended] == ["p/e.1", "p/e.2"]


def test_a_slot_that_was_handed_over_is_confirmed_first(position: Position) -> None:
    """It may be used when the fleet says so, and is not asked for twice."""
    position.want(BULK, Want(3, 10))
    say(position)
    position.hand(Handed("m", grant()))
    assert position.due_at() == -inf
    assert position.holding == {}
    request = position.compose()
    assert request.confirm == ["p/e.1"]
    assert request.wants == []
    assert position.apply(request, Reply("e", 8)) == [grant()]
    assert list(position.holding) == ["p/e.1"]
    assert position.compose().confirm == []


def test_a_slot_that_lapsed_is_not_used(position: Position) -> None:
    """It came too late; it is told of, so that what was reserved for it is given back."""
    position.want(BULK, Want(1, 10))
    say(position)
    position.hand(Handed("m", grant()))
    request = position.compose()
    assert position.apply(request, Reply("e", 8, lapsed=["p/e.1"])) == []
    assert position.holding == {}
    (ended,) = say(position).ended
    assert ended.outcome == "unused"


def test_a_confirmation_that_was_lost_is_said_again(position: Position) -> None:
    """The slot stays in hand until an answer comes."""
    position.want(BULK, Want(1, 10))
    say(position)
    position.hand(Handed("m", grant()))
    position.lost(position.compose())
    assert not position.is_idle
    assert position.compose().confirm == ["p/e.1"]


def test_it_asks_when_it_was_told_to(position: Position, clock: Clock) -> None:
    """Before the next heartbeat, or by an alarm that came through the mailbox."""
    position.want(BULK, Want(1, 10))
    say(position, Reply("e", 8, wait=250.0, why="requests"))
    assert position.due_at() == clock.now + 0.25
    say(position)
    assert position.due_at() == clock.now + HEARTBEAT
    position.hand(Handed("m", alarm=100.0))
    assert position.due_at() == pytest.approx(clock.now + 0.1)


def test_another_memory_is_told_everything(position: Position) -> None:
    """Redis lost its own: what is in flight is entered again, with the name of the memory that was known."""
    position.want(BULK, Want(2, 10))
    say(position, given(grant()))
    assert say(position, Reply("f", 8)).epoch == "e"
    assert position.due_at() == -inf
    again = say(position, Reply("f", 8))
    assert (again.epoch, again.resync, again.renew) == ("f", True, ["p/e.1"])
    assert again.wants == [("bulk", "docs", 2, 10)]
    assert not position.compose().resync


def test_a_pause_is_known_with_its_end(position: Position, clock: Clock) -> None:
    """After a heartbeat at the latest the fleet is asked again; and over when it says nothing of a pause."""
    position.want(BULK, Want(1, 10))
    say(position, Reply("e", 8, wait=600.0, why="paused", paused="the key is refused"))
    assert (position.paused, position.paused_until) == ("the key is refused", clock.now + 0.6)
    for wait in (60_000.0, None):
        say(position, Reply("e", 8, wait=wait, why="paused", paused="the key is refused"))
        assert position.paused_until == clock.now + 1
    say(position, Reply("e", 8))
    assert (position.paused, position.paused_until) == (None, -inf)


def test_limits_that_hold_now_are_known(position: Position) -> None:
    """They may be others than the file's."""
    assert (position.requests_per_minute, position.tokens_per_minute) == (600, None)
    say(position, Reply("e", 3, requests_per_minute=60, tokens_per_minute=1_000))
    assert (position.slots, position.requests_per_minute, position.tokens_per_minute) == (3, 60, 1_000)


def test_flows_are_told_apart(position: Position) -> None:
    """Only what changed is news."""
    position.want(BULK, Want(3, 10))
    position.want(LIVE, Want(2, 20))
    assert sorted(say(position).wants) == [("bulk", "docs", 3, 10), ("live", "docs", 2, 20)]
    position.want(LIVE, Want(1, 20))
    assert position.compose().wants == [("live", "docs", 1, 20)]


def test_what_is_lost_last_is_not_forgotten(position: Position) -> None:
    """Slots may have been granted for a want that was withdrawn: it is not idle before they are free."""
    position.want(BULK, Want(3, 10))
    request = position.compose()
    position.want(BULK, NOTHING)
    position.lost(request)
    assert not position.is_idle
