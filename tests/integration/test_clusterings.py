"""Clustering in SQL: k-means on its own, and the labels of a collection's rows."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from embedq_worker.store.collections import drop_collection
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support import reference
from tests.support.filled import FEW, KINDS, VECTOR, Kind, Stored, angle, fill, literal, make, rows, vectors


def heap(rng: np.random.Generator, axis: int, number: int, chunk: int = 0) -> list[Stored]:
    """Rows around an axis of four, whose ids begin with its number."""
    points = 10 * np.eye(4)[axis] + vectors(rng, number, 4)
    return [Stored(f"{axis}00{each}", point, chunk=chunk) for each, point in enumerate(points)]


def labels(connection: Connection, name: str = "topics") -> dict[str, set[int]]:
    """The clusters of the rows of each heap."""
    found = defaultdict(set)
    for number, cluster in rows(connection, "SELECT id, cluster FROM docs_clusters(%s)", name):
        found[number[0]].add(cluster)
    return found


def run_kmeans(
    connection: Connection, points: reference.Vectors, k: int, seed: int = 0, iterations: int = 50
) -> tuple[reference.Vectors, int]:
    """Centroids and rounds."""
    asked = "SELECT centroids::text[], rounds FROM embedq.kmeans(%s::vector[], %s, %s, %s)"
    ((found, rounds),) = rows(connection, asked, [literal(point) for point in points], k, seed, iterations)
    return np.array([[float(part) for part in each[1:-1].split(",")] for each in found]), rounds


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_heaps_are_found(connection: Connection, kind: Kind) -> None:
    """Three heaps of known sizes get a cluster each, with their sizes and distances."""
    rng = np.random.default_rng(3)
    docs = make(connection, kind, 4)
    heaps = {axis: heap(rng, axis, number) for axis, number in ((1, 40), (2, 25), (3, 10))}
    fill(connection, docs, [row for each in heaps.values() for row in each])

    made = rows(connection, "SELECT cluster, size, distance FROM embedq.make_clustering('docs', 'topics', 3)")

    assert sorted(size for _, size, _ in made) == [10, 25, 40]
    found = labels(connection)
    assert {name: len(clusters) for name, clusters in found.items()} == {"1": 1, "2": 1, "3": 1}
    ((cluster,), sizes) = found["2"], {number: (size, distance) for number, size, distance in made}
    points = np.array([row.vector for row in heaps[2]])
    centroid = reference.units(points).mean(axis=0)
    expected = reference.distances(points, centroid[None])[:, 0]
    assert sizes[cluster] == (25, pytest.approx(expected.mean(), abs=1e-3))
    given = dict(rows(connection, "SELECT id, distance FROM docs_clusters('topics')"))
    assert [given[row.id] for row in heaps[2]] == pytest.approx(expected, abs=1e-3)


@FEW
@given(seed=st.integers(0, 2**32), number=st.integers(1, 60), k=st.integers(1, 6))
def test_centroids_stay_in_numpy(connection: Connection, seed: int, number: int, k: int) -> None:
    """A further round in numpy changes nothing, every cluster has members, the same seed gives the same."""
    points = vectors(np.random.default_rng(seed), number, 3)

    centroids, rounds = run_kmeans(connection, points, k, seed)

    assert len(centroids) == min(k, number)
    assert rounds < 50
    assert np.linalg.norm(centroids, axis=1) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(reference.kmeans(points, centroids, 1), centroids, atol=1e-5)
    np.testing.assert_array_equal(run_kmeans(connection, points, k, seed)[0], centroids)


def test_rounds_are_those_of_numpy(connection: Connection) -> None:
    """From the same seeds, round after round."""
    points = vectors(np.random.default_rng(8), 200, 5)
    ((seeds,),) = rows(
        connection,
        "SELECT embedq.kmeans_seeds(%s::vector[], 6, 4)::text[]",
        [literal(point) for point in points],
    )
    start = np.array([[float(part) for part in each[1:-1].split(",")] for each in seeds])

    for number in (1, 2, 5):
        centroids, rounds = run_kmeans(connection, points, 6, 4, number)
        assert rounds == number
        np.testing.assert_allclose(centroids, reference.kmeans(points, start, number), atol=1e-5)


def test_seeds_are_far_from_each_other(connection: Connection) -> None:
    """k-means++: of four tight heaps, three of them small, most seeds find all; at random few would."""
    rng = np.random.default_rng(5)
    sizes = {0: 200, 1: 5, 2: 5, 3: 5}
    points = np.concatenate([100 * np.eye(4)[axis] + vectors(rng, size, 4) for axis, size in sizes.items()])
    given = [literal(point) for point in points]
    asked = "SELECT embedq.kmeans_seeds(%s::vector[], 4, seed)::text[] FROM generate_series(1, 20) AS seed"

    found = [
        {int(np.argmax([float(part) for part in each[1:-1].split(",")])) for each in seeds}
        for (seeds,) in rows(connection, asked, given)
    ]

    assert sum(len(axes) == 4 for axes in found) >= 18
    assert len({tuple(seeds) for (seeds,) in rows(connection, asked, given)}) > 10


def test_equal_vectors_make_fewer_clusters(connection: Connection) -> None:
    """Five clusters of two different vectors are two; none has no member."""
    points = np.array([[1.0, 0, 0], [2, 0, 0], [3, 0, 0], [0, 1, 0], [0, 5, 0]])

    centroids, _ = run_kmeans(connection, points, 5)

    assert sorted(map(tuple, centroids.round(5).tolist())) == [(0, 1, 0), (1, 0, 0)]


def test_cluster_that_lost_its_members_starts_again(connection: Connection) -> None:
    """Seeds at 1, 126 and 147 degrees: in the second round nothing is nearest to one of the centroids."""
    points = np.array([angle(degrees) for degrees in (1, 126, 147, 62, 68, 52)])

    for seed in (19, 91, 169):
        centroids, _ = run_kmeans(connection, points, 3, seed)
        assert set(reference.distances(points, centroids).argmin(axis=1).tolist()) == {0, 1, 2}


def test_sample_is_enough(connection: Connection) -> None:
    """Centroids of a part label all; the sample is the same for the same seed and another for another."""
    rng = np.random.default_rng(9)
    fill(connection, make(connection, VECTOR, 4), [*heap(rng, 1, 300), *heap(rng, 2, 300)])

    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2, sample => 40)")

    assert labels(connection) == {"1": {1}, "2": {2}} or labels(connection) == {"1": {2}, "2": {1}}
    assert rows(connection, "SELECT count(*) FROM docs_clusters('topics')") == [(600,)]
    drawn = "SELECT cardinality(vectors), md5(vectors::text) FROM embedq.sample_vectors('docs', 9, %s)"
    ((size, one),), ((_, same),), ((_, other),) = (rows(connection, drawn, seed) for seed in (1, 1, 2))
    assert (size, one) == (9, same)
    assert one != other


def test_clustering_is_replaced_at_once(connection: Connection, database_url: str) -> None:
    """Until the transaction ends others see the earlier labels, all of them; then the new ones alone."""
    rng = np.random.default_rng(2)
    fill(connection, make(connection, VECTOR, 4), [*heap(rng, 1, 30), *heap(rng, 2, 30)])
    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")
    rows(connection, "SELECT embedq.make_clustering('docs', 'others', 1)")
    counted = "SELECT cluster, count(*) FROM docs_clusters('topics') GROUP BY 1 ORDER BY 1"

    with connect(database_url) as reader:
        with connection.transaction():
            rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 1)")
            assert rows(reader, counted) == [(1, 30), (2, 30)]
        assert rows(reader, counted) == [(1, 60)]
    assert rows(connection, "SELECT count(*) FROM docs_clusters('others')") == [(60,)]


def test_runs_at_the_same_time_follow_each_other(connection: Connection, database_url: str) -> None:
    """Two of one name both succeed, and the labels are of one of them."""
    rng = np.random.default_rng(2)
    fill(connection, make(connection, VECTOR, 4), [*heap(rng, 1, 30), *heap(rng, 2, 30)])
    failed: list[Exception] = []

    def run(k: int) -> None:
        try:
            with connect(database_url) as own:
                rows(own, "SELECT embedq.make_clustering('docs', 'topics', %s)", k)
        except psycopg.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in (2, 3, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    ((k, clusters),) = rows(
        connection,
        "SELECT k, (SELECT count(*) FROM embedq.cluster WHERE clustering_id = id) FROM embedq.clustering",
    )
    assert k == clusters
    assert rows(connection, "SELECT sum(size) FROM embedq.cluster") == [(60,)]
    assert rows(connection, "SELECT count(*) FROM embedq.cluster_member") == [(60,)]


@pytest.mark.parametrize("kind", [VECTOR, Kind("vector", is_own=True)], ids=str)
def test_update_labels_what_changed(connection: Connection, kind: Kind) -> None:
    """New rows and those of another version get the nearest label, those that are gone lose theirs."""
    rng = np.random.default_rng(4)
    docs = make(connection, kind, 4)
    fill(connection, docs, [*heap(rng, 1, 20), *heap(rng, 2, 20)])
    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")
    before = labels(connection)
    changed = sql.SQL(
        "DELETE FROM {table} WHERE {key}::text = '1000';"
        " UPDATE {table} SET {vector} = '[0,0,1,0]' WHERE {key}::text = '1001'"
    ).format(table=docs.table, key=sql.Identifier(docs.key_column), vector=sql.Identifier(docs.vector_column))
    connection.execute(changed)
    if docs.is_managed:
        connection.execute("UPDATE docs SET version = 2 WHERE id = '1001'")
    fill(connection, docs, [Stored("3000", [0, 1, 0, 0])])

    labelled = rows(connection, "SELECT embedq.update_clustering('docs', 'topics')")

    assert labelled == [(2 if docs.is_managed else 40,)]
    found = dict(rows(connection, "SELECT id, cluster FROM docs_clusters('topics')"))
    assert {found["1001"]} == before["2"]
    assert {found["3000"]} == before["1"]
    assert rows(connection, "SELECT count(*) FROM embedq.cluster_member") == [(40,)]
    assert Counter(found.values()) == dict(rows(connection, "SELECT cluster, size FROM embedq.cluster"))


def test_vector_finds_its_cluster(connection: Connection) -> None:
    """The nearest centroids with their distances, nearest first."""
    rng = np.random.default_rng(4)
    fill(connection, make(connection, VECTOR, 4), [*heap(rng, 1, 20), *heap(rng, 2, 20)])
    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")

    found = rows(connection, "SELECT * FROM embedq.nearest_clusters('docs', 'topics', '[0,0,9,1]', 2)")

    assert {found[0][0]} == labels(connection)["2"]
    assert found[0][1] < 0.1 < found[1][1]
    for nothing in (None, "[0,0,0,0]"):
        asked = "SELECT FROM embedq.nearest_clusters('docs', 'topics', %s)"
        assert rows(connection, asked, nothing) == []


def test_chunks_have_labels_of_their_own(connection: Connection) -> None:
    """A text whose parts are about different things is in both clusters."""
    rng = np.random.default_rng(4)
    fill(connection, make(connection, VECTOR, 4), [*heap(rng, 1, 20), *heap(rng, 2, 20)])
    fill(connection, make(connection, VECTOR, 4), [Stored("1000", [0, 0, 1, 0], chunk=1)])

    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")

    asked = "SELECT chunk, cluster FROM docs_clusters('topics') WHERE id = '1000' ORDER BY chunk"
    found = rows(connection, asked)
    assert [chunk for chunk, _ in found] == [0, 1]
    assert found[0][1] != found[1][1]


def test_clusterings_go_with_their_collection(connection: Connection) -> None:
    """Labels, centroids and entry; those of another collection stay."""
    for name in ("docs", "others"):
        fill(connection, make(connection, VECTOR, 3, name), [Stored("1", [1, 0, 0])])
        rows(connection, "SELECT embedq.make_clustering(%s, 'topics', 1)", name)

    drop_collection(connection, "docs")

    for table in ("clustering", "cluster", "cluster_member"):
        counted = sql.SQL("SELECT count(*) FROM embedq.{}").format(sql.Identifier(table))
        assert connection.execute(counted).fetchall() == [(1,)]


def test_clustering_can_be_dropped(connection: Connection) -> None:
    """By name, with its labels."""
    fill(connection, make(connection, VECTOR, 3), [Stored("1", [1, 0, 0])])
    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 1)")

    rows(connection, "SELECT embedq.drop_clustering('docs', 'topics')")

    assert rows(connection, "SELECT FROM embedq.cluster_member") == []


MISTAKES = {
    "make_clustering('dogs', 'topics', 2)": "there is no collection 'dogs'",
    "make_clustering('empty', 'topics', 2)": "collection 'empty' has no rows to cluster",
    "make_clustering('docs', 'topics', 0)": "0 clusters in 50 iterations cannot be made",
    "make_clustering('docs', 'topics', 2, sample => 0)": "a sample of 0 vectors cannot be drawn",
    "update_clustering('docs', 'tropics')": "collection 'docs' has no clustering 'tropics'",
    "drop_clustering('docs', 'tropics')": "collection 'docs' has no clustering 'tropics'",
    "nearest_clusters('docs', 'tropics', '[1,0,0]')": "collection 'docs' has no clustering 'tropics'",
    "update_clustering('docs', 'old')": "clustering 'old' is of generation 1, collection 'docs' holds",
    "nearest_clusters('docs', 'old', '[1,0,0]')": "clustering 'old' is of generation 1",
}


def test_mistakes_are_explained(connection: Connection) -> None:
    """What happened, to what, and what to do."""
    fill(connection, make(connection, VECTOR, 3), [Stored("1", [1, 0, 0])])
    make(connection, VECTOR, 3, "empty")
    rows(connection, "SELECT embedq.make_clustering('docs', 'old', 1)")
    connection.execute("UPDATE embedq.collection SET generation = 2 WHERE name = 'docs'")

    for call, error in MISTAKES.items():
        with pytest.raises(psycopg.Error, match=error) as caught:
            rows(connection, f"SELECT embedq.{call}")
        assert caught.value.diag.message_hint, call


def test_labels_of_other_collections_are_no_keys(connection: Connection) -> None:
    """Ids of theirs are not cast to the type of this table's key, however the labels are joined."""
    own = make(connection, Kind("vector", is_own=True), 4, "own")
    fill(connection, own, heap(np.random.default_rng(1), 1, 20))
    fill(connection, make(connection, VECTOR, 4), [Stored(f"no. {each}", np.eye(4)[0]) for each in range(20)])
    for name in ("own", "docs"):
        rows(connection, "SELECT embedq.make_clustering(%s, 'topics', 2)", name)
    connection.execute("ANALYZE embedq.cluster_member; ANALYZE embedq.clustering")
    connection.execute("SET enable_nestloop = off; SET enable_mergejoin = off")

    assert len(rows(connection, "SELECT FROM own_clusters('topics')")) == 20
