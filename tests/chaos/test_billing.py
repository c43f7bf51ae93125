"""What was billed twice, and what explains it."""

from __future__ import annotations

import pytest

from embedq.testing import CallRecord
from tests.chaos.billing import LONGEST_UNWRITTEN, Billing, Bills, Disturbance, judge


def call(key: str, at: float, ended: float | None, texts: int = 3) -> CallRecord:
    """A call of a worker."""
    return CallRecord("chaos", at, texts, texts, status=200, ended=ended, key=key)


KILL = Disturbance("a", 10.0, 10.0)
STOP = Disturbance("a", 10.0, 20.0)


def test_a_third_bill() -> None:
    """Each one needs its own explanation."""
    calls = [call("a", 9.9, 10.1), call("b", 14, 15), call("c", 16, 17)]
    assert judge([Bills(calls)], [], [KILL]).unexplained == 1
    billing = judge([Bills(calls)], [], [KILL, Disturbance("b", 15.5, 15.5)])
    assert (billing.twice, billing.unwritten, billing.oldest, billing.unexplained) == (1, 1, 0.5, 0)


def test_nothing_was_billed_twice() -> None:
    """Calls in flight at a kill are counted all the same, those of others and of other times are not."""
    calls = [call("a", 9, 11), call("a", 9.5, None), call("a", 8, 9), call("a", 11, 12), call("b", 9, 11)]
    assert judge([Bills([call("a", 9, 11)]), Bills([])], calls, [KILL]) == Billing(
        disturbances=1, calls=2, texts=6
    )


@pytest.mark.parametrize(
    ("first", "again", "disturbances", "unwritten", "oldest", "unexplained"),
    [
        (call("a", 9.9, 10.1), call("b", 14, 15), [KILL], 0, 0.0, 0),
        (call("a", 9.9, None), call("b", 14, 15), [KILL], 0, 0.0, 0),
        (call("a", 9.0, 9.5), call("b", 14, 15), [KILL], 1, 0.5, 0),
        (call("a", 9.9, 10.1), call("b", 14, 15), [STOP], 0, 0.0, 0),
        (call("b", 14, 15), call("a", 20.2, 21), [STOP], 0, 0.0, 0),
        (call("a", 9.9, 10.1), call("b", 14, 15), [], 0, 0.0, 1),
        (call("c", 9.9, 10.1), call("b", 14, 15), [KILL], 0, 0.0, 1),
        (call("a", 7, 7.5), call("b", 8, 9), [KILL], 0, 0.0, 1),
        (call("a", 11, 12), call("b", 14, 15), [KILL], 0, 0.0, 1),
        (call("a", 1, 9 - LONGEST_UNWRITTEN), call("b", 14, 15), [KILL], 0, 0.0, 1),
    ],
    ids=[
        "in flight",
        "no end",
        "unwritten",
        "stopped",
        "woken",
        "calm",
        "of others",
        "before",
        "after",
        "long ago",
    ],
)
def test_a_second_bill(
    first: CallRecord,
    again: CallRecord,
    disturbances: list[Disturbance],
    unwritten: int,
    oldest: float,
    unexplained: int,
) -> None:
    """A kill or a stop of one of the two workers between the two calls explains it, and nothing else does."""
    billing = judge([Bills([first, again])], [], disturbances)
    assert (billing.twice, billing.unwritten, billing.unexplained) == (1, unwritten, unexplained)
    assert billing.oldest == pytest.approx(oldest)


@pytest.mark.parametrize(
    ("disturbance", "stored_at", "unexplained"),
    [(KILL, 9.8, 1), (KILL, 14.5, 0), (KILL, 10.0, 0), (STOP, 9.8, 0)],
    ids=["before", "after", "at", "stopped"],
)
def test_what_was_stored_before_the_kill(
    disturbance: Disturbance, stored_at: float, unexplained: int
) -> None:
    """It had no reason to be asked for again. Of a stop one cannot tell: who goes on may have stored it."""
    bills = Bills([call("a", 9.0, 9.5), call("b", 14, 15)], stored_at)
    assert judge([bills], [], [disturbance]).unexplained == unexplained
