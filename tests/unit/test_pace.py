"""The pace: what rate and what mean the counts of the last minutes give."""

from __future__ import annotations

import pytest

from embedq_worker.store.fleet.pace import Pace


def pace(*items: int, messages: tuple[int, ...] = (), seconds: float = 30.0) -> Pace:
    """The present minute first; it has lasted for half of itself."""
    return Pace(items=items, messages=messages, seconds=seconds)


@pytest.mark.parametrize(
    ("items", "rate"),
    [
        ((300, 600, 600, 600, 600, 600), 2100 / 210),  # steady, and no more than the last minutes
        ((300, 600, 0, 0), 900 / 90),  # begun a minute ago: the time before does not count
        ((300,), 300 / 30),
        ((0, 600, 600, 600), 1800 / 210),  # it stands still, and the rate falls
        ((0, 0, 0, 0, 600), 0.0),
        ((), 0.0),
    ],
)
def test_the_rate_is_that_of_the_last_minutes(items: tuple[int, ...], rate: float) -> None:
    """Items a second."""
    assert pace(*items).items_per_second == pytest.approx(rate)


def test_a_minute_that_has_just_begun_makes_no_flood() -> None:
    """A single item in the first tenth of a second is no ten a second."""
    assert pace(1, seconds=0.1).items_per_second == pytest.approx(0.1)


def test_the_mean_is_of_all_that_is_known() -> None:
    """And is not known without any message."""
    assert pace(10, 0, 20, messages=(1, 0, 2)).items_per_message == 10
    assert pace(0, 0, messages=(0, 0)).items_per_message is None
