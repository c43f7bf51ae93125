"""Reading how long a service asks not to be called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from embedq_worker.api.refusal import classify
from embedq_worker.api.retry_after import read_retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 99 Oct 9999 99:28:00 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:07 GMT", "date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 7.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:07 GMT", "date": "Wed Oct 21 07:28:00 2015"}, 7.0),
        (
            {"retry-after": "Wednesday, 21-Oct-15 07:28:07 GMT", "date": "Wed, 21 Oct 2015 07:28:00 -0000"},
            7.0,
        ),
        ({"retry-after": "Tue, 21 Oct 2098 07:28:07 GMT", "date": "Tue, 21 Oct 2098 07:28:00 GMT"}, 7.0),
        ({"retry-after": "Tue, 21 Oct 2098 07:28:07 GMT", "date": "Tue, 21 Oct 2098 07:28:07 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:07 GMT", "date": "Thu, 01 Jan 1970 00:00:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:07 GMT", "date": "yesterday"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds and milliseconds are read; nonsense, zero and the past are not a wait."""
    assert read_retry_after(headers) == seconds


def test_retry_after_as_a_date() -> None:
    """A date in the future is the wait until then."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    error = classify(429, b"", {"retry-after": later})

    assert error.retry_after is not None
    assert 90 < error.retry_after <= 100


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "yesterday", ""])
def test_a_date_of_no_use_leaves_our_own_clock(date: str) -> None:
    """Where the reply's own date cannot be, the wait counts from our time."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    wait = read_retry_after({"retry-after": later, "date": date})

    assert wait is not None
    assert 90 < wait <= 100
