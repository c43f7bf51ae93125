"""Every search function against plain numpy, on random rows with many ties, for both types of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedq_worker.catalogue import Model
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.search_rows import (
    DIMENSIONS,
    Row,
    Vector,
    check_nearest,
    distances,
    literal,
    store,
    tables,
    vectors,
)

MODEL = Model(id="small", dimensions=DIMENSIONS)
TYPES = {"docs": "vector", "halves": "halfvec"}
Call = Callable[..., list[tuple[Any, ...]]]

few = settings(max_examples=25, deadline=None, database=None)
counts = st.integers(1, 30)


@pytest.fixture(scope="module")
def database(postgres_server: Postgres, migrated_template: str) -> Iterator[str]:
    """A database with two empty collections, one of each type, without an index."""
    url = postgres_server.create_database("search_answers", migrated_template)
    with connect(url) as connection:
        create_collection(connection, name="docs", model=MODEL, vector_type="vector")
        create_collection(connection, name="halves", model=MODEL, vector_type="halfvec")
    yield url
    postgres_server.drop_database("search_answers")


@pytest.fixture(scope="module")
def connection(database: str) -> Iterator[Connection]:
    """One connection for all tests: its cached plans outlive the rows that they were made for."""
    with connect(database) as opened:
        yield opened


@pytest.fixture(scope="module", params=TYPES)
def table(request: pytest.FixtureRequest) -> str:
    """A collection's name."""
    return str(request.param)


@pytest.fixture(scope="module")
def call(connection: Connection, table: str) -> Call:
    """Calls a function of the collection with arguments as text."""

    def run(function: str, arguments: str, *values: Any) -> list[tuple[Any, ...]]:
        asked = f"SELECT * FROM {table}_{function}({arguments})"  # noqa: S608 # names of this file
        return connection.execute(asked, values).fetchall()

    return run


@few
@given(rows=tables(), query=vectors, k=counts)
def test_nearest(
    connection: Connection, table: str, call: Call, rows: list[Row], query: Vector, k: int
) -> None:
    """The k nearest rows, by the collection's function and by its name."""
    store(connection, table, rows)

    check_nearest(call("search", "%s, %s", literal(query), k), distances(rows, query), k)
    by_name = connection.execute("SELECT * FROM embedq.search(%s, %s, %s)", (table, literal(query), k))
    check_nearest(by_name.fetchall(), distances(rows, query), k)


@few
@given(rows=tables(), query=vectors, k=counts, kind=st.integers(0, 3))
def test_nearest_with_a_filter(
    connection: Connection, table: str, call: Call, rows: list[Row], query: Vector, k: int, kind: int
) -> None:
    """The k nearest of the rows that pass it: many, few, or none as with the last kind."""
    store(connection, table, rows)
    right = distances([row for row in rows if row.kind == kind], query)
    wanted = f'{{"kind": {kind}}}'

    check_nearest(call("search_where", "%s, %s, %s", literal(query), wanted, k), right, k)
    by_name = connection.execute(
        "SELECT * FROM embedq.search(%s, %s, %s, %s)", (table, literal(query), k, wanted)
    )
    check_nearest(by_name.fetchall(), right, k)
    for everything in ("{}", None):
        check_nearest(
            call("search_where", "%s, %s, %s", literal(query), everything, k), distances(rows, query), k
        )


@few
@given(rows=tables(), queries=st.lists(vectors, max_size=4), k=counts)
def test_several_queries(
    connection: Connection, table: str, call: Call, rows: list[Row], queries: list[Vector], k: int
) -> None:
    """The k nearest rows of each, under the number of its place."""
    store(connection, table, rows)

    found = call("search_many", f"%s::{TYPES[table]}[], %s", [literal(query) for query in queries], k)

    assert [row[5] for row in found] == sorted(row[5] for row in found)
    for number, query in enumerate(queries, start=1):
        check_nearest([row for row in found if row[5] == number], distances(rows, query), k)


@few
@given(rows=tables().filter(len), k=counts, data=st.data())
def test_similar(
    connection: Connection, table: str, call: Call, rows: list[Row], k: int, data: st.DataObject
) -> None:
    """The k rows nearest to any chunk of an item, and none of its own."""
    store(connection, table, rows)
    item = data.draw(st.sampled_from([row.id for row in rows]))
    others = [row for row in rows if row.id != item]
    by_chunk = [distances(others, row.vector) for row in rows if row.id == item]

    right = {row.key: min(chunk[row.key] for chunk in by_chunk) for row in others}

    check_nearest(call("similar", "%s, %s", item, k), right, k)
    assert call("similar", "%s, %s", "of nobody", k) == []


@few
@given(rows=tables(), query=vectors, k=counts)
def test_documents(
    connection: Connection, table: str, call: Call, rows: list[Row], query: Vector, k: int
) -> None:
    """The k nearest items, each once, with its nearest chunk."""
    store(connection, table, rows)
    by_row = distances(rows, query)
    right = {
        item: min(by_row[row.key] for row in rows if row.id == item) for item in {row.id for row in rows}
    }

    found = call("documents", "%s, %s", literal(query), k)

    np.testing.assert_allclose([row[4] for row in found], sorted(right.values())[:k], atol=1e-6)
    np.testing.assert_allclose([row[4] for row in found], [right[row[0]] for row in found], atol=1e-6)
    np.testing.assert_allclose(
        [row[4] for row in found], [by_row[row[0], row[1]] for row in found], atol=1e-6
    )
    assert len({row[0] for row in found}) == len(found)


@few
@given(rows=tables(), query=vectors, k=counts, depth=st.integers(1, 40), data=st.data())
def test_pages(
    connection: Connection,
    table: str,
    call: Call,
    rows: list[Row],
    query: Vector,
    k: int,
    depth: int,
    data: st.DataObject,
) -> None:
    """All pages together are all rows up to the greatest distance, each once and in order."""
    store(connection, table, rows)
    right = distances(rows, query)
    farthest = data.draw(st.none() | st.sampled_from([each + 1e-3 for each in [*right.values(), 0.0]]))
    inside = {key: each for key, each in right.items() if farthest is None or each <= farthest}

    pages = read_pages(call, query, k, farthest, depth)

    check_nearest([row for page in pages for row in page], inside, len(rows))
    assert all(len(page) == k for page in pages[:-1])


def read_pages(
    call: Call, query: Vector, k: int, farthest: float | None, depth: int
) -> list[list[tuple[Any, ...]]]:
    """Page after page until one is not full."""
    pages: list[list[tuple[Any, ...]]] = []
    place = None
    while not pages or len(pages[-1]) == k:
        named = "%s, %s, %s, after => %s, depth => %s"
        pages.append(call("search_page", named, literal(query), k, farthest, place, depth))
        place = pages[-1][-1][5] and str(pages[-1][-1][5]).replace("'", '"') if pages[-1] else place
    return pages


@few
@given(
    rows=tables(),
    query=vectors,
    k=counts,
    weights=st.tuples(*[st.sampled_from((0, 1, 1, 2.5))] * 2),
    candidates=counts,
)
def test_hybrid(
    connection: Connection,
    table: str,
    call: Call,
    rows: list[Row],
    query: Vector,
    k: int,
    weights: tuple[float, float],
    candidates: int,
) -> None:
    """Scores are sums of weight / (60 + rank) over both searches, each with its candidates."""
    store(connection, table, rows)
    # Ranks need distances to the last bit; that they are right is shown above.
    measured = f"SELECT id, chunk, embedding <=> %s FROM {table}"  # noqa: S608 # from above
    far = {(item, chunk): far for item, chunk, far in connection.execute(measured, (literal(query),))}
    asked = max(k, candidates)
    by_vector = ranks({key: each for key, each in far.items() if weights[0]}, asked)
    by_text = ranks({row.key: -float(row.lease) for row in rows if row.lease and weights[1]}, asked)

    found = call(
        "hybrid", "%s, 'lease', %s, %s::float8, %s::float8, %s", literal(query), k, *weights, candidates
    )

    # Which rows of the last rank are candidates is not said, so only what is found can be held against it.
    for row in found:
        assert row[4] == pytest.approx(far[row[0], row[1]], abs=1e-6)
        assert row[6] in (None, by_vector.get(row[:2]))
        assert row[7] in (None, by_text.get(row[:2]))
        assert row[5] == pytest.approx(share(weights[0], row[6]) + share(weights[1], row[7]))
    assert [row[5] for row in found] == sorted((row[5] for row in found), reverse=True)
    if asked >= len(rows):
        right = {
            key: share(weights[0], by_vector.get(key)) + share(weights[1], by_text.get(key))
            for key in {**by_vector, **by_text}
        }
        np.testing.assert_allclose([row[5] for row in found], sorted(right.values(), reverse=True)[:k])


def ranks(keyed: dict[tuple[str, int], float], most: int) -> dict[tuple[str, int], int]:
    """Each key's rank from 1 by its number, equal for equal numbers, as far as candidates go."""
    ranked = {key: 1 + sum(other < each for other in keyed.values()) for key, each in keyed.items()}
    return {key: rank for key, rank in ranked.items() if rank <= most}


def share(weight: float, rank: int | None) -> float:
    """What one search adds to a score."""
    return weight / (60 + rank) if rank else 0.0
