"""Recommendations and diversity in SQL: known answers, and numpy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.store.collection import Collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.postgres.connections import Connection
from tests.support import reference
from tests.support.filled import (
    FEW,
    KINDS,
    VECTOR,
    Kind,
    Stored,
    angle,
    fill,
    literal,
    make,
    rayed,
    rows,
    vectors,
)


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """An empty collection of three dimensions."""
    return make(connection, VECTOR, 3)


def test_recommendations_are_near_the_liked_and_never_among_the_given(
    connection: Connection, docs: Collection
) -> None:
    """The nearest to the middle of 10 and 30 that is not given; a disliked one turns the middle away."""
    rayed(connection, docs, 0, 10, 19, 30, 45, 90, 180)

    plain = rows(connection, "SELECT id FROM docs_recommend(ARRAY['10', '30'], k => 3)")
    away = rows(connection, "SELECT id FROM docs_recommend(ARRAY['10', '30'], ARRAY['90'], 3, 0.5)")

    assert plain == [("19",), ("0",), ("45",)]
    assert away == [("0",), ("19",), ("45",)]


def test_recommendations_without_anything_liked_are_none(connection: Connection, docs: Collection) -> None:
    """Of ids that do not exist nothing is known; what cancels out is said."""
    rayed(connection, docs, 0, 90)

    assert rows(connection, "SELECT id FROM docs_recommend('{}')") == []
    assert rows(connection, "SELECT id FROM docs_recommend(ARRAY['7'], ARRAY['90'])") == []
    assert rows(connection, "SELECT id FROM docs_recommend(ARRAY['7', '0'])") == [("90",)]
    with pytest.raises(psycopg.DataError, match="cancel each other out"):
        rows(connection, "SELECT id FROM docs_recommend(ARRAY['0'], ARRAY['0'], disliked_weight => 1)")


def test_recommended_texts_come_once(connection: Connection, docs: Collection) -> None:
    """Each id by its nearest chunk, k of them however many chunks; a long text weighs as a short one."""
    chunks = [Stored("long", angle(20 + number), chunk=number) for number in range(60)]
    fill(connection, docs, [*chunks, Stored("a", angle(0)), Stored("b", angle(1)), Stored("c", angle(90))])
    build_index(connection, docs)

    found = rows(connection, "SELECT id, chunk FROM docs_recommend(ARRAY['a'], k => 3)")
    between = rows(connection, "SELECT distance FROM docs_recommend(ARRAY['long', 'a'], k => 1)")

    assert found == [("b", 0), ("long", 0), ("c", 0)]
    middle = (0 + 49.5) / 2
    assert between[0][0] == pytest.approx(1 - np.cos(np.radians(middle - 1)), abs=1e-3)


@FEW
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(KINDS),
    liked=st.integers(1, 6),
    disliked=st.integers(0, 4),
    weight=st.sampled_from([0, 0.2, 0.5, 0.9]),
)
def test_recommendations_are_those_of_numpy(
    connection: Connection, seed: int, kind: Kind, liked: int, disliked: int, weight: float
) -> None:
    """The same ids with the same distances, for random vectors."""
    points = vectors(np.random.default_rng(seed), 40, 5)
    with connection.transaction(force_rollback=True):
        fill(
            connection,
            make(connection, kind, 5),
            [Stored(str(number), vector) for number, vector in enumerate(points)],
        )
        names = [str(number) for number in range(liked + disliked)]
        found = rows(
            connection,
            "SELECT id::integer, distance FROM docs_recommend(%s, %s, 10, %s)",
            names[:liked],
            names[liked:],
            weight,
        )

    taste = reference.rocchio(points[:liked], points[liked : liked + disliked], weight)
    expected = reference.distances(points, taste[None])[:, 0]
    assert {number for number, _ in found}.isdisjoint(range(liked + disliked))
    assert [distance for _, distance in found] == pytest.approx(
        np.sort(expected[liked + disliked :])[:10], abs=2e-3
    )
    assert [distance for _, distance in found] == pytest.approx(
        [expected[number] for number, _ in found], abs=2e-3
    )


def test_diversity_is_the_mean_distance_of_pairs(connection: Connection, docs: Collection) -> None:
    """1 for right angles, 0 for the same, null for what has no pair."""
    rayed(connection, docs, 0, 90, 180)
    fill(connection, docs, [Stored("1", angle(0))])

    def diversity(*ids: str) -> Any:
        return rows(connection, "SELECT docs_diversity(%s)", list(ids))[0][0]

    assert diversity("0", "90") == pytest.approx(1, abs=1e-3)
    assert diversity("0", "90", "180") == pytest.approx((1 + 1 + 2) / 3, abs=1e-3)
    assert diversity("0", "1", "0") == pytest.approx(0, abs=1e-3)
    assert (diversity("0", "7"), diversity()) == (None, None)


@FEW
@given(seed=st.integers(0, 2**32), number=st.integers(2, 20), dimensions=st.integers(2, 8))
def test_diversity_is_that_of_numpy(connection: Connection, seed: int, number: int, dimensions: int) -> None:
    """The closed form against every pair."""
    points = vectors(np.random.default_rng(seed), number, dimensions)

    found = rows(connection, "SELECT embedq.diversity(%s::vector[])", [literal(each) for each in points])

    assert found[0][0] == pytest.approx(reference.mean_pairwise(points), abs=1e-5)


def test_diverse_rows_differ(connection: Connection, docs: Collection) -> None:
    """Nearness alone gives the twin; the less it counts, the further away is the second."""
    rayed(connection, docs, 0, 1, 41, 90)
    pick = "SELECT id, pick FROM docs_diverse(%s::vector, 2, %s)"

    assert rows(connection, pick, literal(angle(20)), 1) == [("1", 1), ("0", 2)]
    assert rows(connection, pick, literal(angle(20)), 0.7) == [("1", 1), ("41", 2)]
    assert rows(connection, pick, literal(angle(20)), 0) == [("1", 1), ("90", 2)]
    with pytest.raises(psycopg.DataError, match=r"lambda is 1\.5"):
        rows(connection, pick, literal(angle(20)), 1.5)


def test_nothing_is_picked_among_nothing(connection: Connection, docs: Collection) -> None:
    """However many are asked for; what has no distance to the query, or to anything, is nothing."""
    pick = "SELECT embedq.mmr('[1,0,0]', %s::vector[], 1000000000)"

    assert rows(connection, pick, None) == [([],)]
    assert rows(connection, pick, ["[0,1,0]", None, "[0,0,0]", "[1,0,0]"]) == [([4, 1],)]
    assert rows(connection, "SELECT embedq.mmr(NULL, ARRAY['[0,1,0]']::vector[], 1)") == [([],)]
    assert rows(connection, f"SELECT FROM {docs.name}_diverse('[1,0,0]', 1000000000)") == []  # ours


@FEW
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(KINDS),
    k=st.integers(1, 12),
    weight=st.sampled_from([0, 0.1, 0.3, 0.5, 0.8, 1]),
)
def test_diverse_rows_are_those_of_numpy(
    connection: Connection, seed: int, kind: Kind, k: int, weight: float
) -> None:
    """The greedy picks among the candidates, and these are the nearest."""
    points = vectors(np.random.default_rng(seed), 30, 6)
    query = vectors(np.random.default_rng(seed + 1), 1, 6)[0]
    with connection.transaction(force_rollback=True):
        stored = [Stored(str(number), vector) for number, vector in enumerate(points)]
        fill(connection, make(connection, kind, 6), stored)
        asked = "SELECT id::integer FROM docs_diverse(%s::vector, %s, %s, 20)"
        found = [number for (number,) in rows(connection, asked, literal(query), k, weight)]

    nearest = np.argsort(reference.distances(points, query[None])[:, 0])[:20]
    expected = reference.mmr(query, points[nearest], k, weight)
    assert found == [int(nearest[each]) for each in expected]
