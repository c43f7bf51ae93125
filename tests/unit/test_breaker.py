"""The breaker opens for a growing pause and closes with the first success."""

from __future__ import annotations

from embedq_worker.engine.breaker import Breaker


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_it_is_closed_at_first() -> None:
    """Calls are made freely."""
    breaker = Breaker(Clock())
    assert breaker.is_closed
    assert breaker.wait() == 0


def test_each_failed_probe_doubles_the_pause() -> None:
    """Up to the longest."""
    clock = Clock()
    breaker = Breaker(clock, shortest=2, longest=5)
    waits = []
    for _ in range(4):
        breaker.open("refused")
        waits.append(breaker.wait())
        clock.now += waits[-1]
        assert breaker.wait() == 0
    assert waits == [2, 4, 5, 5]


def test_the_service_may_ask_for_longer() -> None:
    """``Retry-After`` is kept."""
    breaker = Breaker(Clock(), shortest=2)
    breaker.open("refused", at_least=30)
    assert breaker.wait() == 30


def test_a_success_closes_it() -> None:
    """And forgets the pauses."""
    breaker = Breaker(Clock(), shortest=2)
    breaker.open("refused")
    breaker.open("refused")
    breaker.close()
    assert breaker.is_closed
    assert breaker.reason is None
    breaker.open("again")
    assert breaker.wait() == 2
