"""What the search functions promise where an index alone would not keep it: rows enough, and each once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from embedq_worker.catalogue import Model
from embedq_worker.store.collection import Quantization
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.postgres.connections import Connection, connect

MODEL = Model(id="small", dimensions=3)
QUERY = "[1,0,0]"

FILL = """
INSERT INTO docs (id, chunk, content, metadata, embedding, version)
SELECT CASE WHEN i <= 1200 THEN 'long' ELSE 'item ' || i / 2 END, i, 'text ' || i,
       jsonb_build_object('odd', i % 2 = 1), ARRAY[cos(i / 7 * 0.01), sin(i / 7 * 0.01), 0]::real[], 1
FROM generate_series(1, 1500) AS i
"""
"""Always seven rows equally far away, the first 1,200 of one item."""


@pytest.fixture
def quantization() -> Quantization:
    """What the index holds; a test may say otherwise."""
    return "none"


@pytest.fixture
def connection(database_url: str, quantization: Quantization) -> Iterator[Connection]:
    """A connection to a database with an indexed collection, which plans nothing but index scans."""
    with connect(database_url) as opened:
        docs = create_collection(opened, name="docs", model=MODEL, quantization=quantization)
        opened.execute(FILL)
        build_index(opened, docs)
        opened.execute("SET enable_seqscan = off")
        yield opened


def call(connection: Connection, asked: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return connection.execute(asked.encode(), values).fetchall()


@pytest.mark.parametrize("quantization", ["none", "halfvec", "binary"])
def test_pages_give_each_row_once(connection: Connection) -> None:
    """Ties across the ends of pages and of what the index gives, and rows that it misses, included; whatever
    hnsw.ef_search is meanwhile."""
    seen: list[tuple[str, int]] = []
    place = None
    while True:
        connection.execute(f"SET hnsw.ef_search = {1 + len(seen) % 90}")
        page = call(
            connection, "SELECT * FROM docs_search_page(%s, 40, after => %s, depth => 300)", QUERY, place
        )
        seen += [row[:2] for row in page]
        if len(page) < 40:
            break
        (place,) = call(connection, "SELECT %s::jsonb", _json(page[-1][5]))[0]
        place = _json(place)

    assert len(seen) == len(set(seen)) == 1500


def test_pages_do_not_shift(connection: Connection) -> None:
    """Rows of pages that were read go away: the next page begins where it would have begun."""
    asked = "SELECT * FROM docs_search_page(%s, 14, after => %s)"
    first = call(connection, asked, QUERY, None)
    second = call(connection, asked, QUERY, _json(first[-1][5]))

    connection.execute("DELETE FROM docs WHERE chunk < 10")

    assert call(connection, asked, QUERY, _json(first[-1][5])) == second


def test_threshold_is_answered_by_the_index(connection: Connection) -> None:
    """Every row up to the greatest distance, and none beyond."""
    within = 1 - 0.98**0.5  # a cosine between two groups of rows

    found = call(connection, "SELECT distance FROM docs_search_page(%s, 500, %s)", QUERY, within)

    (expected,) = call(connection, "SELECT count(*) FROM docs WHERE embedding <=> %s <= %s", QUERY, within)[0]
    assert 50 < len(found) == expected
    assert max(far for (far,) in found) <= within


def _json(place: Any) -> str:
    return str(place).replace("'", '"')


def test_each_item_once_though_one_comes_first_a_thousand_times(connection: Connection) -> None:
    """Never fewer than k items while there are as many, wherever the scan gives up."""
    for most in (20_000, 100):
        connection.execute(f"SET hnsw.max_scan_tuples = {most}")

        found = call(connection, "SELECT id, distance FROM docs_documents(%s, 20)", QUERY)

        assert len({item for item, _ in found}) == len(found) == 20
        assert found[0][0] == "long"
        assert [far for _, far in found] == sorted(far for _, far in found)
    assert len(call(connection, "SELECT id FROM docs_documents(%s, 1000)", QUERY)) == 152


def test_similar_leaves_a_thousand_own_chunks_out(connection: Connection) -> None:
    """They are found first, and k others all the same."""
    found = call(connection, "SELECT id FROM docs_similar('long', 5)")

    assert len(found) == 5
    assert "long" not in {item for (item,) in found}


@pytest.mark.parametrize("quantization", ["none", "halfvec", "binary"])
def test_more_rows_than_a_scan_gives(connection: Connection) -> None:
    """k above hnsw.ef_search, in the first call of a session, which has not loaded pgvector yet."""
    with connect(connection.info.dsn) as fresh:
        fresh.execute("SET enable_seqscan = off")
        assert len(call(fresh, "SELECT FROM docs_similar('item 700', 200)")) == 200
        assert fresh.execute("SHOW hnsw.iterative_scan").fetchone() == ("off",)
    for asked in (
        "docs_search_many(ARRAY[%s]::vector[], 200)",
        "docs_hybrid(%s, '', 200)",
        "docs_search_where(%s, '{}', 200)",
        "docs_search_page(%s, 200, depth => 300)",
    ):
        assert len(call(connection, f"SELECT FROM {asked}", QUERY)) == 200


def test_all_rows_though_an_index_misses_some(connection: Connection) -> None:
    """Rows that a scan finds too late for its order, or gives up before."""
    connection.execute("SET hnsw.max_scan_tuples = 100")
    for asked in (
        "docs_search_many(ARRAY[%s]::vector[], 1500)",
        "embedq.search('docs', %s, 1500)",
        "embedq.search('docs', %s, 1500, '{}')",
        "docs_search_page(%s, 1500)",
    ):
        assert len(call(connection, f"SELECT FROM {asked}", QUERY)) == 1500
        assert connection.execute("SHOW enable_indexscan").fetchone() == ("on",)


@pytest.mark.parametrize(
    "asked",
    [
        "SELECT distance FROM docs_documents($q, 40)",
        "SELECT distance FROM docs_hybrid($q, '', 40)",
        "SELECT distance FROM docs_diverse($q, 40, 1)",
        "SELECT distance FROM docs_similar('item 750', 40)",
        "SELECT distance FROM docs_recommend(ARRAY['item 750'], k => 40)",
    ],
)
def test_nothing_is_missing_where_the_index_gives_up(connection: Connection, asked: str) -> None:
    """The scan ends among rows that are deleted: what a function gives is what it gives without an index."""
    connection.execute("DELETE FROM docs WHERE chunk <= 1400")
    connection.execute("SET hnsw.max_scan_tuples = 100")
    asked = asked.replace("$q", f"'{QUERY}'")

    found = call(connection, asked)

    connection.execute("SET enable_indexscan = off")
    exact = call(connection, asked)
    assert len(found) == len(exact) >= 40
    assert [far for (far,) in found] == pytest.approx([far for (far,) in exact])


def test_lonely_rows_are_right_where_the_index_gives_up(connection: Connection) -> None:
    """Each row is compared with its k nearest, though the scan ends among rows that are deleted."""
    connection.execute("DELETE FROM docs WHERE chunk % 15 <> 0")
    connection.execute("SET hnsw.max_scan_tuples = 100")
    asked = "SELECT id, chunk, distance, furthest FROM docs_anomalies(20) ORDER BY chunk"

    found = call(connection, asked)

    connection.execute("SET enable_indexscan = off")
    exact = call(connection, asked)
    assert len(found) == 100
    assert [row[2:] for row in found] == [pytest.approx(row[2:], abs=1e-6) for row in exact]


def test_pages_keep_a_higher_ef_search(connection: Connection) -> None:
    """What the session asks for is not lowered: the rows are those of the search."""
    docs = create_collection(connection, name="wide", model=Model(id="wide", dimensions=32))
    connection.execute(
        "INSERT INTO wide (id, content, embedding, version) SELECT i::text, '', ("
        " SELECT array_agg(hashint8extended(i, j) / 1e19) FROM generate_series(1, 32) AS j)::real[], 1"
        " FROM generate_series(1, 2000) AS i"
    )
    build_index(connection, docs, BuildOptions(m=4, ef_construction=8))  # one that finds little by itself
    connection.execute("SET hnsw.ef_search = 400")

    for item in range(1, 2000, 50):
        ((near,),) = call(connection, "SELECT embedding::text FROM wide WHERE id = %s", str(item))
        searched = call(connection, "SELECT id FROM wide_search(%s, 10)", near)
        paged = call(connection, "SELECT id FROM wide_search_page(%s, 9, depth => 10)", near)
        assert paged == searched[:9]


def test_pages_end_where_they_began_in_few_digits(connection: Connection) -> None:
    """A place says the whole distance, however a session prints its numbers."""
    connection.execute("SET extra_float_digits = 0")
    asked = "SELECT id, chunk, place::text FROM docs_search_page(%s, 100, after => %s)"
    pages = [call(connection, asked, QUERY, None)]
    while len(pages[-1]) == 100:
        pages.append(call(connection, asked, QUERY, pages[-1][-1][2]))

    seen = [row[:2] for page in pages for row in page]
    assert len(seen) == len(set(seen)) == 1500


@pytest.mark.parametrize("k", ["0", "NULL"])
def test_no_rows_and_all_rows(connection: Connection, k: str) -> None:
    """k may be 0, and null is no limit, as for LIMIT."""
    for asked in (
        f"docs_search_where(%s, '{{\"odd\": true}}', {k})",
        f"docs_documents(%s, {k})",
        f"docs_search_many(ARRAY[%s]::vector[], {k})",
        f"docs_search_page(%s, {k})",
    ):
        found = len(call(connection, f"SELECT FROM {asked}", QUERY))
        assert found == 0 if k == "0" else found >= 150
