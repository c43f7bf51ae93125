"""Whose fault it is that calls fail."""

from __future__ import annotations

import random

from embedq_worker.engine.calling.blame import Blame
from embedq_worker.engine.texts import Batch, Shape, WaitingText
from embedq_worker.limiter import Flow
from tests.support.dispatching import Waiter

SHAPE = Shape(4, "document")


def batch() -> Batch:
    """One text."""
    return Batch([WaitingText(b"key", "text", 1, 0.0, Flow("bulk", "docs"), Waiter())], SHAPE)


def test_nobody_is_blamed_without_answers() -> None:
    """The first time tells nothing, nor does a time in which nobody else called."""
    blame, failing = Blame(), batch()
    blame.answered(batch())
    assert not any(blame.failed(failing) for _ in range(20))
    assert (failing.failures, failing.strikes) == (20, 0)


def test_strikes_count_in_a_row() -> None:
    """While the service is well; they are forgotten when it is not, and kept while nobody else calls."""
    blame, failing = Blame(), batch()
    blame.failed(failing)
    for strikes in (1, 2):
        blame.answered(batch())
        assert blame.failed(failing)
        assert failing.strikes == strikes
    assert not blame.failed(failing)
    assert failing.strikes == 2
    for _ in range(3):
        blame.answered(batch())
    blame.failed(batch())  # another one: three answers to a failure are too few
    assert not blame.failed(failing)
    assert failing.strikes == 0


def test_others_that_are_tried_again_are_no_bad_hour() -> None:
    """Nor are their halves: ten bad texts must not excuse each other."""
    blame, failing, other = Blame(), batch(), batch()
    other.is_half = True
    blame.failed(failing)
    blame.answered(batch())
    for _ in range(9):
        blame.failed(other)
    assert blame.failed(failing)


def test_a_service_that_fails_often_is_to_blame_itself() -> None:
    """One call of three fails, whatever is in it: of 60,000 none comes near to ten strikes."""
    chance = random.Random(7)
    blame = Blame()
    again: list[Batch] = []
    most = 0
    for _ in range(60_000):
        tried = again.pop(0) if again and chance.random() < 0.5 else batch()
        if chance.random() < 1 / 3:
            blame.failed(tried)
            again.append(tried)
            most = max(most, tried.strikes)
        else:
            blame.answered(tried)
    assert most < 5
