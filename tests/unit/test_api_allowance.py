"""What headers say of the limits, in every form that services write them, and nothing of their nonsense."""

from __future__ import annotations

import math
import pickle

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.testing.meter import duration
from embedq_worker.api import Allowance, read_allowance
from embedq_worker.errors import Transient

OPENAI = {
    "x-ratelimit-limit-requests": "3000",
    "x-ratelimit-limit-tokens": "1000000",
    "x-ratelimit-remaining-requests": "2999",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-requests": "20ms",
    "x-ratelimit-reset-tokens": "6m0s",
}
GENERIC = {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "7", "ratelimit-reset": "42"}


@pytest.mark.parametrize(
    ("headers", "allowance"),
    [
        (OPENAI, Allowance(3000, 2999, 0.02, 1_000_000, 0, 360.0)),
        ({"x-ratelimit-limit": "50", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, (50, 0, 1.0)),
        (GENERIC, (100, 7, 42.0)),
        ({"x-ratelimit-remaining-requests": "79", "x-ratelimit-remaining-tokens": "61353"}, (None, 79, None)),
        (OPENAI | GENERIC | {"x-ratelimit-remaining": "1"}, Allowance(3000, 2999, 0.02, 1_000_000, 0, 360.0)),
        ({"x-ratelimit-remaining-requests": "5"} | GENERIC, (None, 5, None)),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "-1"}, None),
        ({"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1"}, None),
        ({"x-ratelimit-limit-tokens": "0", "x-ratelimit-reset-tokens": "0"}, None),
        ({"x-ratelimit-limit-requests": "None", "x-ratelimit-remaining-requests": ""}, None),
        ({"x-ratelimit-reset": "1793412000"}, None),
        ({"retry-after": "7", "content-type": "application/json"}, None),
        ({}, None),
    ],
)  # fmt: skip  a row a case
def test_known_forms(headers: dict[str, str], allowance: tuple[object, ...] | None) -> None:
    """OpenAI's, Azure's, Together's and the drafts' names; one form is never mixed with another."""
    read = read_allowance(httpx.Headers(headers))

    if allowance is None or isinstance(allowance, Allowance):
        assert read == allowance
    else:
        assert read is not None
        assert read[:3] == allowance


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("250ms", 0.25),
        ("1h2m3.5s", 3723.5),
        ("2m59.56s", 179.56),
        ("1m", 60.0),
        ("1d", 86_400.0),
        ("12.5µs", 1.25e-5),
        ("17", 17.0),
        ("0.5", 0.5),
        (" 3 ", 3.0),
        ("0", None),
        ("0s", None),
        ("0ms", None),
        ("-1", None),
        ("-1s", None),
        ("1d1s", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("1_0", None),
        ("1 s", None),
        ("1sx", None),
        ("s", None),
        ("9" * 400, None),
        ("1s" * 400, None),
        ("soon", None),
        ("2026-11-23T03:19:00Z", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("\N{ARABIC-INDIC DIGIT THREE}s", None),
        ("", None),
    ],
)
def test_resets(text: str, seconds: float | None) -> None:
    """Durations and plain seconds are read; zero, the past, dates and nonsense are unknown."""
    read = read_allowance({"x-ratelimit-reset-tokens": text})

    assert (read and read.tokens_reset) == (seconds and pytest.approx(seconds))


@given(st.floats(0.001, 86_399))
def test_durations_as_openai_writes_them_come_back(seconds: float) -> None:
    """What is written to the millisecond is read to the millisecond."""
    read = read_allowance({"x-ratelimit-reset-requests": duration(seconds)})

    assert read is not None
    assert read.requests_reset == pytest.approx(math.ceil(seconds * 1000) / 1000, rel=1e-5)


NAMES = st.sampled_from([*OPENAI, *GENERIC, "x-ratelimit-reset", "ratelimit-", "x-ratelimit-limit"])
NEARLY = st.text("0123456789.-+ednhmsuµ,;=_ ", max_size=30)


@given(st.dictionaries(NAMES | st.text(max_size=20), st.text(max_size=120) | NEARLY, max_size=8))
def test_nothing_breaks_the_reader(headers: dict[str, str]) -> None:
    """Whatever the headers are, what is told lies within bounds, and no lack is without an end."""
    read = read_allowance(headers)

    assert read != Allowance()
    for limit, remaining, reset in () if read is None else (read[:3], read[3:]):
        assert limit is None or limit >= 1
        assert remaining is None or remaining >= (reset is None)
        assert reset is None or 0 < reset <= 86_400


def test_an_error_keeps_its_allowance_when_pickled() -> None:
    """What a refusal says of the limits crosses process borders."""
    error = Transient(429)
    error.allowance = read_allowance(OPENAI)

    assert pickle.loads(pickle.dumps(error)).allowance == error.allowance  # noqa: S301  our own bytes
    assert error.allowance is not None
