"""The arithmetic of recall, against definitions that count."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.store.indexes.recall import Figures, Neighbour, Query, percentile, recall, smallest
from embedq_worker.store.search import as_text

DISTANCES = st.lists(st.integers(0, 12).map(float), min_size=1, max_size=30)
"""Few values: many ties."""


@given(distances=DISTANCES, k=st.integers(1, 12), data=st.data())
def test_recall_counts_rows_with_fewer_than_k_nearer_ones(
    distances: list[float], k: int, data: st.DataObject
) -> None:
    """A row is rightly among the k nearest if fewer than k are strictly nearer, however ties are ordered."""
    found = data.draw(
        st.lists(st.sampled_from(range(len(distances))), unique=True, max_size=min(k, len(distances)))
    )

    right = sum(sum(other < distances[row] for other in distances) < k for row in found)

    measured = recall(sorted(distances)[:k], sorted(distances[row] for row in found))
    assert measured == right / min(k, len(distances))


@given(distances=DISTANCES, k=st.integers(1, 40))
def test_exact_search_finds_all(distances: list[float], k: int) -> None:
    """Also with fewer rows than k."""
    exact = sorted(distances)[:k]
    assert recall(exact, exact) == 1
    assert recall(exact, []) == 0


@given(values=st.lists(st.integers(0, 9), min_size=1), share=st.integers(1, 100).map(lambda each: each / 100))
def test_percentile_is_the_lowest_that_such_a_share_does_not_exceed(values: list[int], share: float) -> None:
    """By its definition, tried on every value."""
    allowed = [
        each for each in values if sum(other <= each for other in values) >= share * len(values) - 1e-9
    ]
    assert percentile(values, share) == min(allowed)


def test_a_query_is_not_its_own_neighbour() -> None:
    """The row itself is left out, found or not; its other chunks and equal rows are not."""
    found = [
        Neighbour("a", 0, 0.0),
        Neighbour("b", 0, 0.0),
        Neighbour("a", 1, 0.5),
        Neighbour("c", 0, math.nan),
    ]
    row = Query(vector="[1]", row=("a", 0))

    assert row.neighbours(found, 10) == [0.0, 0.5]
    assert row.neighbours(found[1:], 1) == [0.0]
    assert Query(vector="[1]").neighbours(found, 2) == [0.0, 0.0]


def test_smallest_that_reaches_the_target() -> None:
    """Whatever order they were measured in."""
    measured = [
        Figures(ef_search=ef, recall=share, worst=0, p50=1, p95=1, rows=10, by_index=1)
        for ef, share in ((80, 0.99), (20, 0.9), (40, 0.95))
    ]
    best = smallest(measured, 0.95)
    assert best is not None
    assert best.ef_search == 40
    assert smallest(measured, 0.995) is None


def test_vectors_as_text() -> None:
    """As pgvector reads them, with every digit."""
    assert as_text([1, 0.1]) == "[1.0,0.1]"
