"""How long an item waits for the other model's vector."""

from __future__ import annotations

import pytest

from embedq_worker.engine.moving import patience
from embedq_worker.engine.moving.patience import LEAST, MOST, Patience


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock: what its only entry says."""
    now = [100.0]
    monkeypatch.setattr(patience, "monotonic", lambda: now[0])
    return now


def test_steadily_slower_model_is_waited_for(clock: list[float]) -> None:
    """With room for answers that differ, and never for longer than a write may take."""
    waits = Patience()
    assert waits.seconds == LEAST
    for _ in range(200):
        waits.learn(1.2)
        assert 1.5 < waits.seconds < 2.5
        waits.learn(0.9)
        assert 1.3 < waits.seconds < 2.5
    waits.learn(4.8)
    assert waits.seconds == MOST
    assert clock == [100.0]


def test_it_is_given_up_soon(clock: list[float]) -> None:
    """One that is too late, or says nothing any more, is waited for as briefly as at first."""
    waits = Patience()
    waits.learn(2.0)
    waits.learn(MOST + 1)
    assert waits.seconds == LEAST
    waits.learn(2.0)
    clock[0] += 11
    assert waits.seconds == LEAST


def test_it_forgets(clock: list[float]) -> None:
    """A delay of once is not waited for for ever."""
    waits = Patience()
    waits.learn(4.0)
    for _ in range(200):
        waits.learn(0.0)
    assert waits.seconds == LEAST
    assert clock == [100.0]
