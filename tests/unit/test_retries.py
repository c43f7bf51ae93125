"""Batches that are tried again: in the order of their flow, at once or later."""

from __future__ import annotations

import asyncio
import random

import pytest

from embedq_worker.engine.calling.retries import Retries
from embedq_worker.engine.texts import Batch, Shape, WaitingText
from embedq_worker.limiter import Flow, Want
from tests.support.dispatching import Waiter

LIVE, BULK = Flow("live", "docs"), Flow("bulk", "docs")
SHAPE = Shape(4, "document")


def batch(tokens: int = 1, flow: Flow = BULK) -> Batch:
    """A batch of one text."""
    return Batch([WaitingText(b"key", "text", tokens, 0.0, flow, Waiter())], SHAPE)


def test_each_flow_has_its_own_line() -> None:
    """First come first served."""
    retries = Retries(lambda: None)
    first, second, third, live = batch(), batch(), batch(), batch(flow=LIVE)
    retries.add(first)
    retries.add(second)
    retries.add(live)
    retries.add(third)
    assert [retries.next(BULK) for _ in range(4)] == [first, second, third, None]
    assert retries.next(LIVE) is live
    assert retries.next(Flow("query", "docs")) is None


def test_what_is_wanted() -> None:
    """Calls by flow, with tokens that do for the largest of them."""
    retries = Retries(lambda: None)
    for tokens in (3, 9, 5):
        retries.add(batch(tokens))
    retries.add(batch(2, LIVE))
    assert dict(retries.wanted()) == {BULK: Want(3, 9), LIVE: Want(1, 2)}
    retries.next(LIVE)
    assert dict(retries.wanted()) == {BULK: Want(3, 9)}


def test_a_batch_that_is_too_large_stays() -> None:
    """For a grant that will do."""
    retries = Retries(lambda: None)
    large = batch(10)
    retries.add(large)
    assert retries.next(BULK, 9.9) is None
    assert retries.next(BULK, 10) is large


async def test_some_are_due_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said when they are."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0.01)
    due = asyncio.Event()
    retries = Retries(due.set)
    later = batch()
    assert retries.add_later(later) == 0.01
    assert not dict(retries.wanted())
    assert not due.is_set()
    await asyncio.wait_for(due.wait(), 5)
    assert retries.next(BULK) is later


async def test_delays_are_random_and_grow() -> None:
    """Up to half a minute."""
    retries = Retries(lambda: None)
    most = []
    for failures in (1, 2, 3, 10, 1000):
        delays = []
        for _ in range(200):
            failed = batch()
            failed.failures = failures
            delays.append(retries.add_later(failed))
        assert min(delays) >= 0
        assert len(set(delays)) > 100
        most.append(max(delays))
    for delay, ceiling in zip(most, (0.5, 1, 2, 30, 30), strict=True):
        assert ceiling * 0.8 < delay <= ceiling
    retries.cancel()


async def test_some_are_kept_and_some_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are due or not; those that are not kept do not become due either."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0.01)
    due = asyncio.Event()
    retries = Retries(due.set)
    retries.add(batch(1))
    kept = [batch(2), batch(4)]
    retries.add(kept[0])
    retries.add_later(batch(3))
    retries.add_later(kept[1])
    due.clear()
    retries.sift(lambda batch: batch.tokens % 2 == 0)
    assert dict(retries.wanted()) == {BULK: Want(1, 2)}
    await asyncio.wait_for(due.wait(), 5)
    assert [retries.next(BULK) for _ in range(3)] == [*kept, None]


async def test_a_batch_goes_with_its_first_text_that_is_left() -> None:
    """Its flow may be another one after some texts were taken out."""
    retries = Retries(lambda: None)
    mixed = Batch([*batch(flow=LIVE).texts, *batch().texts], SHAPE)
    retries.add(mixed)

    def without_live(batch: Batch) -> bool:
        batch.texts = [text for text in batch.texts if text.flow != LIVE]
        return True

    retries.sift(without_live)
    assert retries.next(LIVE) is None
    assert retries.next(BULK) is mixed


async def test_what_fails_for_hours_is_tried_again() -> None:
    """After thousands of failures, too: a text whose delay cannot be reckoned would be lost."""
    retries = Retries(lambda: None)
    failing = batch()
    failing.failures = 5_000
    assert 0 <= retries.add_later(failing) <= 30
    retries.cancel()
