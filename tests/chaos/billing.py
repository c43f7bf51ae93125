"""Texts that were billed twice, and whether a death explains it: pure logic.

A whole and right answer that is asked for again is paid for twice. That may happen to what a process was
calling for, or had not stored yet, when it was killed or stopped, and to nothing else. Times are seconds of
the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from embedq.testing import CallRecord

SLACK = 0.5
"""Seconds in which a process that goes on has not noticed that it was stopped, nor the API that it died."""
LONGEST_UNWRITTEN = 15.0
"""Seconds that an answer may wait to be stored, while Postgres is away: an older one is stored."""
_CLOCKS = 0.05
"""Seconds by which the clocks of this process and of Postgres may seem to differ."""


class Disturbance(NamedTuple):
    """A worker was killed (``end`` is ``begin``), or stopped for longer than its lease may last.

    ``key`` is the key by which the API knows the worker.
    """

    key: str
    begin: float
    end: float


class Bills(NamedTuple):
    """A text that was enqueued once: the calls that it was billed by, and when it was stored, if it is."""

    calls: Sequence[CallRecord]
    stored_at: float | None = None


@dataclass(frozen=True)
class Billing:
    """What the disturbances cost."""

    disturbances: int = 0
    calls: int = 0
    """In flight at them."""
    texts: int = 0
    """Of those calls."""
    twice: int = 0
    """Texts billed more than once, all in all."""
    unwritten: int = 0
    """Those of them whose first answer had come before the disturbance, and was not stored yet."""
    oldest: float = 0.0
    """The most seconds between such an answer and the disturbance."""
    unexplained: int = 0
    """Those of them that no disturbance explains."""


def judge(
    bills: Iterable[Bills], calls: Iterable[CallRecord], disturbances: Sequence[Disturbance]
) -> Billing:
    """Hold what was billed against the deaths; ``calls`` are all of the run."""
    in_flight = [call for call in calls if any(_in_flight(call, each) for each in disturbances)]
    twice = [each for each in bills if len(each.calls) > 1]
    ages = [_oldest(each, disturbances) for each in twice]
    unwritten = [age for age in ages if age is not None and age > 0]
    return Billing(
        disturbances=len(disturbances),
        calls=len(in_flight),
        texts=sum(call.texts for call in in_flight),
        twice=len(twice),
        unwritten=len(unwritten),
        oldest=max(unwritten, default=0.0),
        unexplained=sum(age is None for age in ages),
    )


def _in_flight(call: CallRecord, disturbance: Disturbance) -> bool:
    """Whether the worker was waiting for this call."""
    ended = call.ended is not None and call.ended < disturbance.begin
    return call.key == disturbance.key and call.at <= disturbance.end and not ended


def _oldest(bills: Bills, disturbances: Sequence[Disturbance]) -> float | None:
    """The most of ``_age`` over all bills of a text after the first; None if one of them is not explained."""
    possible = [each for each in disturbances if not _was_stored(bills, each)]
    ages = [_age(first, again, possible) for first, again in pairwise(bills.calls)]
    return None if None in ages else max(age for age in ages if age is not None)


def _was_stored(bills: Bills, disturbance: Disturbance) -> bool:
    """Whether the text was stored when a worker was killed, so that its death explains nothing.

    What is stored twice keeps its first time: equal versions do not replace each other.
    """
    is_kill = disturbance.begin == disturbance.end
    return is_kill and bills.stored_at is not None and bills.stored_at < disturbance.begin - _CLOCKS


def _age(first: CallRecord, again: CallRecord, disturbances: Iterable[Disturbance]) -> float | None:
    """Seconds from the first answer to the disturbance that explains the second; 0 if it was in flight."""
    ages = [
        0.0 if first.ended is None else max(0.0, each.begin - first.ended)
        for each in disturbances
        if each.key in (first.key, again.key) and each.begin <= again.at and each.end + SLACK >= first.at
    ]
    return min((age for age in ages if age <= LONGEST_UNWRITTEN), default=None)
