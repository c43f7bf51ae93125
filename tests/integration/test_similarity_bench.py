"""What ``make bench-sql`` measures, small: load, indexes and filters, on one ground."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from tests.bench.report import Report
from tests.bench.sql import filters, indexes, load
from tests.bench.sql.ground import Ground, Size
from tests.bench.sql.mixture import BLOCK, Mixture

SMALL = Size(rows=1500, dimensions=64, queries=10, clusters=5)


@pytest.fixture
def ground(database_url: str) -> Iterator[Ground]:
    """A small one, on the session's server."""
    with Ground(database_url, SMALL) as made:
        yield made


def figures(report: Report) -> dict[str, str]:
    """What was measured, by name."""
    return {row.figure: row.measured for row in report.rows}


def test_every_way_of_loading_stores_every_row(ground: Ground) -> None:
    """How much faster bulk is says nothing on so few rows, and the machine is busy."""
    report = Report()
    load.measure(ground, report)

    for kind in ("vector", "vector, one writer", "halfvec column"):
        assert figures(report)[f"{kind}: into a live index: rows"] == "1,500"
        assert float(figures(report)[f"{kind}: bulk, times as fast"]) > 0
    assert ground.value("SELECT count(*) FROM docs") == ground.size.rows
    assert ground.value("SELECT count(DISTINCT embedding) FROM docs") == ground.size.rows


def test_a_live_load_ends_in_time(ground: Ground) -> None:
    """With the rows that it came to."""
    loaded = ground.load(ground.create("live"), at_most=0)
    assert loaded.rows == 0 == ground.value("SELECT count(*) FROM live")


def test_every_kind_of_index_is_measured(ground: Ground) -> None:
    """Each is used, and finds nearly everything among so few rows; the halves take half the room."""
    report = Report()
    indexes.measure(ground, report)

    assert report.missed == []
    found = figures(report)
    for kind in indexes.KINDS:
        assert float(found[f"{kind}: ef_search 320: recall@10"]) > 0.97
    assert ground.value("SELECT count(*) FROM embedq.collection") == 1


def test_filters_give_the_rows_that_there_are(ground: Ground) -> None:
    """Few, many, and far away ones."""
    report = Report()
    filters.measure(ground, report)

    found = figures(report)
    assert found["0.1 % of the rows: rows that match"] == "1"
    assert found["0.1 % of the rows: fewest rows that a query gets"] == "1"
    assert found["one cluster: fewest rows that a query gets"] == "10"
    assert found["0.1 % of the rows: recall@10"] == "1.0000"


def test_mixture_is_the_same_each_time() -> None:
    """Of unit length, each vector another, wherever the reading begins; in topics."""
    mixture = Mixture(32, clusters=3)
    first = list(mixture.take(0, BLOCK + 7))
    again = list(Mixture(32, clusters=3).take(BLOCK, 7))

    assert len(first) == BLOCK + 7
    for (vector, cluster), (other, same) in zip(islice(first, BLOCK, None), again, strict=True):
        assert np.array_equal(vector, other)
        assert cluster == same
    vectors = np.array([vector for vector, _ in first])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert len(np.unique(vectors, axis=0)) == len(vectors)
    clusters = np.array([cluster for _, cluster in first])
    alike = vectors @ vectors.T
    same_cluster = clusters[:, None] == clusters[None, :]
    assert alike[same_cluster].mean() > alike[~same_cluster].mean() + 0.2
