"""Drift: the distance of vectors, and the fixed texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq.testing import vector_of
from embedq_worker.engine.drift_check import read_texts
from embedq_worker.store.drift import cosine_distance

TEXTS = st.text(min_size=1)
SIZES = st.integers(1, 64)


@given(TEXTS, TEXTS, SIZES, st.floats(0.01, 100))
def test_a_distance_is_of_directions(one: str, other: str, size: int, factor: float) -> None:
    """The same both ways and at any length; 0 for the same direction, never below."""
    a, b = vector_of(one, size), vector_of(other, size)
    distance = cosine_distance(a, b)
    assert 0 <= distance <= 2
    assert distance == cosine_distance(b, a)
    assert cosine_distance(a * np.float32(factor), b) == pytest.approx(distance, abs=1e-6)
    assert cosine_distance(a, a) < 1e-12


def test_a_small_distance_is_exact() -> None:
    """Far below what single precision could tell apart."""
    straight, turned = np.array([1, 0], np.float32), np.array([1, 1e-4], np.float32)
    assert cosine_distance(straight, turned) == pytest.approx(5e-9, rel=1e-3)


def test_the_texts_are_few_short_and_different() -> None:
    """A check costs next to nothing, and fits into one request of any model."""
    texts = read_texts()
    assert 8 <= len(texts) == len(set(texts)) <= 16
    assert all(text.strip() == text and len(text) <= 100 for text in texts)
    assert sum(len(text.encode()) for text in texts) < 1_000
