"""Anomalies and outliers in SQL: known answers, and numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.store.collection import Collection
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
    make,
    rayed,
    rows,
    vectors,
)


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """An empty collection of three dimensions."""
    return make(connection, VECTOR, 3)


def test_lonely_rows_are_anomalies(connection: Connection, docs: Collection) -> None:
    """The one far from all others first, by the mean distance to its neighbours; or of given ids."""
    rayed(connection, docs, 0, 1, 2, 3, 90)

    found = rows(connection, "SELECT id, distance, furthest FROM docs_anomalies(2)")
    asked = rows(connection, "SELECT id FROM docs_anomalies(2, ARRAY['1', '0'])")

    assert found[0][0] == "90"
    assert found[0][1:] == pytest.approx(
        [1 - np.mean(np.cos(np.radians([87, 88]))), 1 - np.cos(np.radians(88))], abs=1e-3
    )
    assert len(found) == 5
    assert asked == [("0",), ("1",)]


def test_chunks_of_one_text_are_no_neighbours(connection: Connection, docs: Collection) -> None:
    """A text that is like no other stays an anomaly, however alike its chunks are."""
    chunks = [Stored("long", angle(90 + number), chunk=number) for number in range(5)]
    fill(connection, docs, [*chunks, *(Stored(str(number), angle(number)) for number in range(5))])

    found = rows(connection, "SELECT id, chunk FROM docs_anomalies(2) LIMIT 5")

    assert found == [("long", number) for number in (4, 3, 2, 1, 0)]


@FEW
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS), k=st.integers(1, 8))
def test_anomalies_are_those_of_numpy(connection: Connection, seed: int, kind: Kind, k: int) -> None:
    """Mean and furthest of the distances to the k nearest others, for random vectors."""
    points = vectors(np.random.default_rng(seed), 30, 4)
    with connection.transaction(force_rollback=True):
        stored = [Stored(str(number), vector) for number, vector in enumerate(points)]
        fill(connection, make(connection, kind, 4), stored)
        found = rows(connection, "SELECT id::integer, distance, furthest FROM docs_anomalies(%s)", k)

    every = reference.distances(points, points)
    np.fill_diagonal(every, np.inf)
    near = np.sort(every, axis=1)[:, :k]
    expected = {number: (near[number].mean(), near[number].max()) for number in range(30)}
    assert [distance for _, distance, _ in found] == sorted((row[1] for row in found), reverse=True)
    for number, mean, furthest in found:
        assert (mean, furthest) == pytest.approx(expected[number], abs=1e-3)
    assert len(found) == 30


@pytest.mark.parametrize("kind", [VECTOR, Kind("halfvec", is_own=True)], ids=str)
def test_outliers_are_far_from_the_middle_of_their_group(connection: Connection, kind: Kind) -> None:
    """Of all rows, or of those that a filter keeps."""
    docs = make(connection, kind, 3)
    fill(connection, docs, [Stored(str(each), angle(each), {"half": each // 90}) for each in (0, 10, 89)])
    fill(connection, docs, [Stored(str(each), angle(each), {"half": 1}) for each in (90, 95, 130)])

    group = rows(connection, """SELECT id, distance FROM docs_outliers('{"half": 1}')""")

    assert rows(connection, "SELECT id FROM docs_outliers() LIMIT 1") == [("0",)]
    assert [number for number, _ in group] == ["130", "90", "95"]
    middle = np.mean([angle(each) for each in (90, 95, 130)], axis=0)
    expected = reference.distances(np.array([angle(each) for each in (130, 90, 95)]), middle[None])[:, 0]
    assert [distance for _, distance in group] == pytest.approx(expected, abs=1e-3)
