"""The busiest minute of calls, held against looking at every minute there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedq.testing import Busiest, CallRecord
from embedq.testing.busiest import busiest

MINUTE = 10.0
# Whole and half seconds, so that calls are often exactly a minute apart.
calls = st.builds(
    CallRecord,
    model=st.just("m"),
    at=st.integers(0, 80).map(lambda half: half / 2),
    texts=st.just(1),
    tokens=st.integers(0, 50),
    admitted=st.booleans(),
)


@given(st.lists(calls, max_size=40), st.sampled_from([0.5, MINUTE, 100.0]))
def test_it_is_the_most_of_all_windows(records: list[CallRecord], minute: float) -> None:
    """No window that begins with a call has more calls or tokens, and one has as many of each."""
    counted = [record for record in records if record.admitted]
    windows = [
        [other.tokens for other in counted if first.at <= other.at < first.at + minute] for first in counted
    ]

    assert busiest(records, minute) == (
        max(map(len, windows), default=0),
        max(map(sum, windows), default=0),
    )


def test_calls_a_minute_apart_share_no_minute() -> None:
    """As the limits count: a call may follow exactly a minute after another."""
    apart = [CallRecord("m", at, 1, 3, admitted=True) for at in (1.0, 1.0 + MINUTE)]
    closer = [*apart, CallRecord("m", 10.9, 1, 4, 429, admitted=True), CallRecord("m", 5.0, 1, 9, 429)]

    assert busiest(apart, MINUTE) == Busiest(calls=1, tokens=3)
    assert busiest(closer, MINUTE) == Busiest(calls=2, tokens=7)
    assert busiest([], MINUTE) == Busiest(calls=0, tokens=0)
