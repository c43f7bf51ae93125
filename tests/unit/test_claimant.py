"""For how long a process may ask for what it has claimed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.engine.cache.claimant import Term

TIMES = st.floats(0, 100, allow_nan=False)


def test_a_term_is_over_by_itself_or_when_it_is_ended() -> None:
    """No later than it was begun or extended for."""
    now = 0.0
    term, other = Term(3.0, lambda: now), Term(3.0, lambda: now)
    assert not term.is_over
    assert term.name != other.name
    now = 2.9
    term.extend(6.0)
    now = 5.9
    assert not term.is_over
    assert other.is_over
    term.end()
    assert term.is_over


@given(st.lists(st.tuples(TIMES, TIMES), max_size=20))
def test_a_term_that_was_over_stays_over(steps: list[tuple[float, float]]) -> None:
    """Whenever a renewal is heard of: others may have claimed what it held."""
    now = 0.0
    term = Term(10.0, lambda: now)
    was_over = False
    for passed, until in steps:
        now += passed
        was_over = was_over or term.is_over
        term.extend(now + until)
        assert term.is_over >= was_over
