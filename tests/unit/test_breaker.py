"""The breaker opens for a growing pause and closes with the first success."""

from __future__ import annotations

from embedq_worker.engine.breaker import LONGEST_WISH, Breaker


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
    clock = Clock()
    breaker = Breaker(clock, shortest=2)
    breaker.open("refused")
    clock.now += 2
    breaker.open("refused")
    assert breaker.wait() == 4
    breaker.close()
    assert breaker.is_closed
    assert breaker.reason is None
    breaker.open("again")
    assert breaker.wait() == 2


def test_calls_that_fail_together_are_one_failure() -> None:
    """Sixteen calls in flight are refused: the pause is the first one's, and the next doubles once."""
    clock = Clock()
    breaker = Breaker(clock, shortest=2)
    for _ in range(16):
        breaker.open("refused")
        clock.now += 0.1
    clock.now = 100
    assert breaker.wait() == 2
    clock.now = 102
    breaker.open("refused")
    assert breaker.wait() == 4


def test_while_it_is_open_the_service_may_ask_for_longer() -> None:
    """One of the calls that fail together carries a ``Retry-After``; the others do not shorten it."""
    breaker = Breaker(Clock(), shortest=2)
    breaker.open("refused")
    breaker.open("refused", at_least=30)
    breaker.open("refused", at_least=10)
    assert breaker.wait() == 30


def test_the_service_may_not_ask_for_a_day() -> None:
    """A wrong ``Retry-After`` costs minutes."""
    breaker = Breaker(Clock())
    breaker.open("refused", at_least=86_400)
    assert breaker.wait() == LONGEST_WISH
    breaker.open("refused", at_least=86_400)
    assert breaker.wait() == LONGEST_WISH
