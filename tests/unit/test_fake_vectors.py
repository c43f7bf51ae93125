"""The fake API's vectors and rates: pure functions and their properties."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.testing import tokens_of, vector_of
from embedq.testing.control import Behaviour
from embedq.testing.meter import RateWindow, duration
from embedq.testing.vectors import digest_of, vectors_of

# The first components for "embedq": a change of the function would break other teams' stored expectations.
GOLDEN = "63e61dbf25d34d3eee33ec3ee6f11abf"

texts = st.text(st.characters(exclude_categories=["Cs"]))
dimensions = st.integers(1, 3072)


def test_the_function_never_changes() -> None:
    """A known text has known bits."""
    assert vector_of("embedq", 4).astype("<f4").tobytes().hex() == GOLDEN


@given(texts, dimensions)
def test_vectors_are_unit_length_float32(text: str, size: int) -> None:
    """Any text, the empty one too, has a float32 vector of length one."""
    vector = vector_of(text, size)

    assert vector.dtype == np.float32
    assert vector.shape == (size,)
    assert np.linalg.norm(vector.astype(np.float64)) == pytest.approx(1.0, abs=1e-6)


@given(st.lists(texts, min_size=1, max_size=8), dimensions)
def test_a_batch_gives_the_same_bits(batch: list[str], size: int) -> None:
    """The neighbours in a request never change a text's vector."""
    together = vectors_of([digest_of(text) for text in batch], size)

    for row, text in zip(together, batch, strict=True):
        assert row.tobytes() == vector_of(text, size).tobytes()


@given(texts, texts)
def test_texts_are_told_apart(one: str, other: str) -> None:
    """Different texts are nearly orthogonal, equal ones equal."""
    cosine = float(vector_of(one, 1536) @ vector_of(other, 1536))

    assert (cosine > 0.999) == (one == other)
    assert one == other or abs(cosine) < 0.2


def test_fewer_dimensions_cut_and_normalise() -> None:
    """A shorter vector points where the longer one's beginning does."""
    cut = vector_of("leases", 1536)[:256]

    assert vector_of("leases", 256) == pytest.approx(cut / np.linalg.norm(cut), abs=1e-7)


def test_tokens_are_bytes_over_four() -> None:
    """Tokens follow the UTF-8 size, rounded up."""
    assert [tokens_of(text) for text in ("", "a", "abcd", "abcde", "éééé")] == [0, 1, 1, 2, 2]


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=40),
    st.integers(1, 5),
    st.integers(50, 100),
)
def test_no_sliding_minute_exceeds_a_limit(
    arrivals: list[tuple[float, int]], requests: int, tokens: int
) -> None:
    """What the window admits keeps both limits in every minute, and a refused call fits after its wait."""
    behaviour = Behaviour(requests_per_minute=requests, tokens_per_minute=tokens, minute=10.0)
    window, admitted, now = RateWindow(), [], 0.0

    for gap, size in arrivals:
        now += gap
        wait = window.admit(behaviour, size, now)
        if wait > 0.0:
            now += wait
            assert window.admit(behaviour, size, now + 1e-6) == 0.0
            now += 1e-6
        admitted.append((now, size))

    for at, _ in admitted:
        within = [size for other, size in admitted if at <= other < at + 10.0 - 1e-3]
        assert len(within) <= requests
        assert sum(within) <= tokens


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0s"), (0.017, "17ms"), (1, "1s"), (1.5, "1.5s"), (60, "1m0s"), (360, "6m0s"), (59.9999, "1m0s")],
)
def test_durations_are_written_as_openai_does(seconds: float, written: str) -> None:
    """Durations have the forms that clients of OpenAI parse."""
    assert duration(seconds) == written


def test_plain_embedq_needs_no_extra() -> None:
    """Importing embedq imports neither the testing tools nor what they need."""
    code = (
        "import sys, embedq; print([n for n in ('aiohttp', 'numpy', 'embedq.testing') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
