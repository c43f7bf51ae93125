"""Which indexes the search functions read, at 1,000 and at 50,000 rows, whatever the planner believes.

What a function's own statements scan is told by Postgres' counters of the transaction under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from psycopg import sql

from embedq_worker.catalogue import Model
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.postgres.connections import Connection, connect

MODEL = Model(id="small", dimensions=4)
QUERY = "'[4,1,2,0]'"
"""Stands for ``$q`` below."""
VECTOR, METADATA, KEY, TABLE = "docs_embedding_idx", "docs_metadata_idx", "docs_pkey", "docs"

FILL = """
INSERT INTO docs (id, content, metadata, embedding, version)
SELECT i::text, 'text ' || i || CASE WHEN i % 100 = 0 THEN ' lease' ELSE '' END,
       jsonb_build_object('all', true, 'half', i % 2 = 0, 'few', i % 200 = 0, 'far', e[1] < -0.1), e, 1
FROM (
    SELECT i, ARRAY[random() - 0.5, random() - 0.5, random() - 0.5, random() - 0.5]::real[] AS e
    FROM generate_series(1, {}) AS i
) AS made
"""
SCANS = """
SELECT indexrelname, pg_stat_get_xact_numscans(indexrelid) FROM pg_stat_user_indexes WHERE relname = 'docs'
UNION ALL SELECT 'docs', pg_stat_get_xact_numscans('docs'::regclass)
"""


class Filter(NamedTuple):
    """A filter, and what a search by it scans."""

    text: str
    small: set[str]
    """Of 1,000 rows, where every filter passes few."""
    large: set[str]
    """Of 50,000 rows."""


FILTERS = {
    "none": Filter('{"other": 1}', {METADATA}, {METADATA}),
    "few": Filter('{"few": true}', {METADATA}, {METADATA}),
    "half": Filter('{"half": true}', {METADATA}, {METADATA, VECTOR}),
    "all": Filter('{"all": true}', {METADATA}, {METADATA, VECTOR}),
    "far": Filter('{"far": true, "all": true}', {METADATA}, {METADATA, VECTOR}),
    "empty": Filter("{}", {VECTOR}, {VECTOR}),
}


@pytest.fixture(scope="module", params=[1_000, 50_000])
def rows(request: pytest.FixtureRequest) -> int:
    """How many rows there are."""
    return int(request.param)


@pytest.fixture(scope="module")
def connection(postgres_server: Postgres, migrated_template: str, rows: int) -> Iterator[Connection]:
    """A database with one indexed collection of so many rows; what a test sets is set back."""
    name = f"search_plans_{rows}"
    with connect(postgres_server.create_database(name, migrated_template)) as opened:
        opened.prepare_threshold = None  # a prepared statement keeps its plan, whatever is set later
        made = create_collection(opened, name="docs", model=MODEL)
        opened.execute("SELECT setseed(0.5)")
        opened.execute(sql.SQL(FILL).format(rows))
        _index(opened, made)
        yield opened
    postgres_server.drop_database(name)


def _index(connection: Connection, collection: Collection) -> None:
    build_index(connection, collection, BuildOptions(m=6, ef_construction=24))  # quick, and good enough
    connection.execute("VACUUM ANALYZE docs")


@contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    """A transaction of which nothing stays."""
    with connection.transaction(force_rollback=True):
        yield


def scanned(connection: Connection, call: str, times: int = 1) -> tuple[set[str], list[tuple[Any, ...]]]:
    """Which indexes, or the table itself, the last of some equal calls scans, and the rows that it gives."""
    with connection.transaction():
        for _ in range(times):
            before = _scans(connection)
            found = connection.execute(all_of(call)).fetchall()
            after = _scans(connection)
    return {name for name in after if after[name] > before[name]}, found


def _scans(connection: Connection) -> dict[str, int]:
    return {name: count for name, count in connection.execute(SCANS)}  # noqa: C416 # the types of a row are unknown


def _sql(text: str) -> sql.SQL:
    return sql.SQL(text.replace("$q", QUERY))


def all_of(call: str) -> sql.SQL:
    """All that a function returns."""
    return _sql(f"SELECT * FROM {call}")  # noqa: S608 # of this file


def by_filter(wanted: Filter) -> str:
    """The ten nearest rows that pass a filter."""
    return f"docs_search_where($q, '{wanted.text}', 10)"


def plan(connection: Connection, query: str) -> str:
    """How a query would be run."""
    return "\n".join(line for (line,) in connection.execute(_sql("EXPLAIN " + query)))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, content, distance FROM docs_search($q, 5)",
        "SELECT id, embedding <=> $q AS distance FROM docs ORDER BY embedding <=> $q LIMIT 5",
        "SELECT id, content, embedding <=> $q AS distance FROM docs ORDER BY distance LIMIT 5",
        "SELECT id FROM docs_search($q, 5, 1) WHERE distance < 0.3",
        "SELECT other.id FROM docs_search($q, 5) AS found JOIN docs AS other USING (id)",
        "SELECT q.n, id FROM (VALUES (1, $q::vector)) AS q(n, v), docs_search(q.v, 5)",
    ],
)
def test_plain_searches_are_index_scans(connection: Connection, query: str) -> None:
    """By the function, which is inlined, as by hand: nothing is sorted, and no row read but by the index."""
    made = plan(connection, query)

    assert f"Index Scan using {VECTOR}" in made
    assert "Function Scan" not in made
    assert "Sort" not in made
    assert "Seq Scan" not in made.replace("Seq Scan on q", "")


def test_an_order_that_the_index_does_not_serve_reads_every_row(connection: Connection) -> None:
    """What the docs warn of: any other expression than the distance itself."""
    made = plan(connection, "SELECT id FROM docs ORDER BY 1 - (embedding <=> $q) DESC LIMIT 5")

    assert "Sort" in made
    assert "Seq Scan on docs" in made


@pytest.mark.parametrize("call", ["docs_search($q, 5)", "docs_search($q, 5, 1)", "docs_outliers()"])
def test_other_processes_help_to_read_every_row(connection: Connection, call: str) -> None:
    """As with the query written out: a function that is inlined forbids no parallel plan."""
    with rolled_back(connection):
        connection.execute(
            "SET LOCAL enable_indexscan = off; SET LOCAL min_parallel_table_scan_size = 0;"
            "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0"
        )
        assert "Workers Planned" in plan(connection, f"SELECT id FROM {call}")  # noqa: S608 # of this file
        assert connection.execute(all_of(call)).fetchone()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("docs_search($q, 5)", {VECTOR}),
        ("embedq.search('docs', $q, 5)", {VECTOR}),
        ("docs_search_many(ARRAY[$q, '[0,0,1,0]']::vector[], 5)", {VECTOR}),
        ("docs_similar('7', 5)", {VECTOR, KEY}),
        ("docs_documents($q, 5)", {VECTOR}),
        ("docs_search_page($q, 5)", {VECTOR}),
        ("docs_search_page($q, 5, 0.1)", {VECTOR}),
    ],
)
def test_functions_read_the_index_alone(connection: Connection, call: str, expected: set[str]) -> None:
    """However often one is called in a session: a plan for all arguments is no worse."""
    names, found = scanned(connection, call, times=8)

    assert names == expected
    assert found


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("embedq.search('docs', $q, 900)", {VECTOR}),
        ("docs_search_many(ARRAY[$q]::vector[], 900)", {VECTOR}),
        ("docs_similar('7', 200)", {VECTOR, KEY}),
        ("docs_documents($q, 200)", {VECTOR}),
        ("docs_search_page($q, 5, depth => 900)", {VECTOR}),
        ("docs_hybrid($q, 'lease', 5, candidates => 900)", {VECTOR, "docs_to_tsvector_idx"}),
    ],
)
def test_many_candidates_come_from_the_index_too(
    connection: Connection, call: str, expected: set[str]
) -> None:
    """Where the planner would rather read the table, as it takes long vectors to be in it."""
    with rolled_back(connection):
        connection.execute("CREATE INDEX ON docs USING gin (to_tsvector('simple'::regconfig, content))")
        assert scanned(connection, call)[0] == expected


@pytest.mark.parametrize(
    "call",
    [
        "docs_search($q, 5)",
        "embedq.search('docs', $q, 5)",
        "docs_search_many(ARRAY[$q, '[0,0,1,0]']::vector[], 5)",
        "docs_documents($q, 5)",
        "docs_search_page($q, 5)",
        "docs_hybrid($q, 'lease', 5)",
    ],
)
def test_a_session_can_have_it_exact(connection: Connection, call: str) -> None:
    """Without index scans every row is compared, as in any query."""
    scanned(connection, call, times=8)  # so often that a plan is kept
    with rolled_back(connection):
        connection.execute("SET LOCAL enable_indexscan = off")

        assert scanned(connection, call)[0] == {TABLE}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("belief", ["statistics", "no statistics", "generic plans"])
def test_filter_decides_the_way(connection: Connection, rows: int, name: str, belief: str) -> None:
    """Few matches are compared over the GIN index, many sought by the vector index: never by what the planner
    believes of a filter, and never by reading the table."""
    wanted = FILTERS[name]
    with rolled_back(connection):
        if belief == "no statistics":
            connection.execute("DELETE FROM pg_statistic WHERE starelid = 'docs'::regclass")
        if belief == "generic plans":
            connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        names, found = scanned(connection, by_filter(wanted), times=2)

    assert names == (wanted.small if rows == 1_000 else wanted.large)
    matching = connection.execute(
        "SELECT count(*) FROM docs WHERE metadata @> %s::jsonb", (wanted.text,)
    ).fetchone()
    assert matching
    assert len(found) == min(10, matching[0])


def test_many_matches_of_a_large_table_are_not_all_counted(connection: Connection, rows: int) -> None:
    """GIN would find each of them first: some rows that are read tell it, too."""
    with rolled_back(connection):
        connection.execute("UPDATE pg_class SET reltuples = 1e7 WHERE oid = 'docs'::regclass")
        half, found = scanned(connection, by_filter(FILTERS["half"]))
        few, _ = scanned(connection, by_filter(FILTERS["few"]))

    assert half == ({TABLE, METADATA} if rows == 1_000 else {TABLE, VECTOR})
    assert few == {TABLE, METADATA}
    assert len(found) == 10


def test_a_scan_that_runs_out_is_made_up_for(connection: Connection, rows: int) -> None:
    """Only rows far from the query pass: the scan ends before it has found ten, and the answer is exact."""
    connection.execute(sql.SQL("SET hnsw.max_scan_tuples = {}").format(rows // 100))
    try:
        names, found = scanned(connection, by_filter(FILTERS["far"]))
        alone = by_hand = None
        with rolled_back(connection):
            connection.execute("SET LOCAL hnsw.iterative_scan = 'strict_order'")
            connection.execute("SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off")
            alone = connection.execute(_sql(BY_HAND)).fetchall()
        with rolled_back(connection):
            connection.execute("SET LOCAL enable_indexscan = off")
            by_hand = connection.execute(_sql(BY_HAND)).fetchall()
    finally:
        connection.execute("RESET hnsw.max_scan_tuples")

    assert len(alone) < 10
    assert [row[0] for row in found] == [row[0] for row in by_hand]
    assert names == ({METADATA} if rows == 1_000 else {METADATA, VECTOR})


BY_HAND = "SELECT id FROM docs WHERE metadata @> '{\"far\": true}' ORDER BY embedding <=> $q LIMIT 10"


def test_filter_obeys_a_session_that_wants_it_exact(connection: Connection) -> None:
    """As any query does: without index scans every match is compared."""
    with rolled_back(connection):
        connection.execute("SET LOCAL enable_indexscan = off")
        names, _ = scanned(connection, by_filter(FILTERS["all"]))

    assert names == {METADATA}


@pytest.mark.parametrize("is_indexed", [False, True])
def test_words_are_found_by_their_index(connection: Connection, is_indexed: bool) -> None:
    """When there is one on the very expression, and by reading every text where not."""
    with rolled_back(connection):
        if is_indexed:
            connection.execute(
                "CREATE INDEX words ON docs USING gin (to_tsvector('simple'::regconfig, content))"
            )
        names, found = scanned(connection, "docs_hybrid($q, 'lease', 5)")

    assert names == ({VECTOR, "words"} if is_indexed else {VECTOR, TABLE})
    assert any(row[7] == 1 for row in found)


def test_no_plan_is_compiled(connection: Connection) -> None:
    """Before 18 Postgres took what is switched off for very dear, and compiled searches without an index."""
    with rolled_back(connection):
        connection.execute("SET LOCAL jit = on")
        connection.execute("SELECT embedq.use_index('pg_catalog, public')")

        assert connection.execute("SHOW jit").fetchone() == ("off",)


def test_settings_are_as_before(connection: Connection) -> None:
    """Whatever the functions set for themselves, the rest of the transaction sees the session's own."""
    named = "SELECT name, setting FROM pg_settings ORDER BY name"
    with rolled_back(connection):
        connection.execute("SET LOCAL hnsw.ef_search = 33; SET LOCAL search_path = pg_catalog")
        connection.execute("SET LOCAL jit = on")
        before = connection.execute(named).fetchall()
        for call in (
            "embedq.search('docs', $q, 5)",
            "public.docs_search_where($q, '{\"half\": true}', 5)",
            "public.docs_search_many(ARRAY[$q]::public.vector[], 5)",
            "public.docs_similar('7', 5)",
            "public.docs_documents($q, 5)",
            "public.docs_search_page($q, 5)",
            "public.docs_hybrid($q, 'lease', 5)",
        ):
            connection.execute(all_of(call))
            assert connection.execute(named).fetchall() == before
