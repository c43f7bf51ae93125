"""Classification in SQL: known answers, and numpy's."""

from __future__ import annotations

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
    rows,
    vectors,
)


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """An empty collection of three dimensions."""
    return make(connection, VECTOR, 3)


def test_label_is_that_of_near_rows(connection: Connection, docs: Collection) -> None:
    """Nearer examples count more, and rows without a label not at all."""
    labelled = {0: "low", 20: "low", 60: "high", 70: "high", 80: "high", 30: None, 31: None}
    fill(
        connection,
        docs,
        [Stored(str(each), angle(each), {"label": name} if name else {}) for each, name in labelled.items()],
    )

    (first, second) = rows(
        connection, "SELECT * FROM docs_classify(%s::vector, 'label', 4)", literal(angle(29))
    )

    near = [(1 - np.cos(np.radians(abs(29 - each))), labelled[each] or "") for each in (20, 0, 60, 70)]
    expected = reference.shares(near)
    assert (first[0], first[2], second[0], second[2]) == ("low", 2, "high", 2)
    assert first[1] == pytest.approx(expected["low"], abs=0.02)
    assert first[1] + second[1] == pytest.approx(1)
    assert first[3] == pytest.approx(1 - np.cos(np.radians(9)), abs=1e-3)


def test_rare_labels_are_found(connection: Connection, docs: Collection) -> None:
    """One near, three behind thousands: as many as there are, with the index too."""
    fill(connection, docs, [Stored(str(each), angle(each / 100)) for each in range(3000)])
    fill(connection, docs, [Stored(f"far {each}", angle(90 + each), {"label": "far"}) for each in range(3)])
    fill(connection, docs, [Stored("near", angle(0), {"label": "near"})])
    build_index(connection, docs)

    found = rows(connection, "SELECT label, neighbours FROM docs_classify('[1,0,0]', 'label', 5)")

    assert found == [("near", 1), ("far", 3)]
    assert rows(connection, "SELECT FROM docs_classify('[1,0,0]', 'colour')") == []


@pytest.mark.parametrize("labels", [0, 3])
def test_rare_labels_take_no_scan_a_row(connection: Connection, docs: Collection, labels: int) -> None:
    """Every row is held against the few that have one: the table is not read once more for each."""
    fill(
        connection,
        docs,
        [Stored(str(each), angle(each), {"label": "a"} if each < labels else None) for each in range(60)],
    )
    scans = "SELECT pg_stat_get_xact_numscans('docs'::regclass)"
    with connection.transaction():
        ((before,),) = rows(connection, scans)
        found = rows(connection, "SELECT FROM docs_classify_rows('label')")
        ((after,),) = rows(connection, scans)

    assert len(found) == (60 - labels if labels else 0)
    assert after - before <= 3


def test_k_may_be_any(connection: Connection, docs: Collection) -> None:
    """No votes for 0, all of them for null or more than there are, and an error for less than 0."""
    labels = {0: "low", 20: "low", 80: "high"}
    fill(connection, docs, [Stored(str(each), angle(each), {"label": name}) for each, name in labels.items()])
    fill(connection, docs, [Stored("30", angle(30))])
    connection.execute("SET statement_timeout = '5s'")
    asked = "SELECT label, neighbours FROM docs_classify('[1,0,0]', 'label', %s)"

    assert rows(connection, asked, 0) == rows(connection, "SELECT FROM docs_classify_rows('label', 0)") == []
    for every in (None, 4, 2**31 - 1):
        assert rows(connection, asked, every) == [("low", 2), ("high", 1)]
        labelled = rows(connection, "SELECT id, label FROM docs_classify_rows('label', %s)", every)
        assert labelled == [("30", "low")]
    with pytest.raises(psycopg.Error, match="must not be negative"):
        rows(connection, asked, -1)


def test_rows_without_a_label_get_one(connection: Connection, docs: Collection) -> None:
    """All of them, or those that a filter keeps; the labelled are left alone."""
    known = [
        Stored(str(each), angle(each), {"label": "low" if each < 45 else "high"}) for each in (1, 2, 88, 89)
    ]
    fill(connection, docs, known)
    fill(connection, docs, [Stored(str(each), angle(each), {"new": each > 50}) for each in (10, 80)])

    every = rows(
        connection, "SELECT id, label, confidence > 0.9 FROM docs_classify_rows('label', 3) ORDER BY id"
    )
    some = rows(connection, """SELECT id, label FROM docs_classify_rows('label', 3, '{"new": true}')""")

    assert every == [("10", "low", True), ("80", "high", True)]
    assert some == [("80", "high")]


@FEW
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS), k=st.integers(1, 12))
def test_labels_are_those_of_numpy(connection: Connection, seed: int, kind: Kind, k: int) -> None:
    """The confidence of each label, for random vectors of which some are labelled."""
    rng = np.random.default_rng(seed)
    points, query = vectors(rng, 40, 4), vectors(rng, 1, 4)[0]
    labels = [str(each) if each else None for each in rng.integers(4, size=40)]
    with connection.transaction(force_rollback=True):
        stored = [
            Stored(str(number), vector, {"label": label})
            for number, (vector, label) in enumerate(zip(points, labels, strict=True))
        ]
        fill(connection, make(connection, kind, 4), stored)
        asked = "SELECT label, confidence FROM docs_classify(%s::vector, 'label', %s)"
        found = rows(connection, asked, literal(query), k)

    far = reference.distances(points, query[None])[:, 0]
    near = sorted((far[number], label) for number, label in enumerate(labels) if label)[:k]
    assert dict(found) == pytest.approx(reference.shares(near), rel=0.02, abs=1e-3)
