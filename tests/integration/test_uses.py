"""What holds for every use of vectors in SQL: plans, search paths, generations and rights."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from psycopg import sql

from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.postgres.connections import Connection
from tests.support.filled import (
    KINDS,
    MODEL,
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


CALLS = (
    "docs_recommend(ARRAY['0'], ARRAY['90'])",
    "docs_anomalies(1)",
    "docs_outliers()",
    "docs_diversity(ARRAY['0', '90'])",
    "docs_diverse({})",
    "docs_classify({}, 'label')",
    "docs_classify_rows('label')",
    "docs_clusters('topics')",
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_search_path_will_do(connection: Connection, kind: Kind) -> None:
    """The functions know their table, the extension's types and its operators."""
    docs = make(connection, kind, 3)
    rayed(connection, docs, 0, 10, 80, 90)
    connection.execute("SET search_path = pg_catalog")
    query = sql.SQL("(SELECT {} FROM {} LIMIT 1)").format(sql.Identifier(docs.vector_column), docs.table)

    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")
    rows(connection, "SELECT embedq.update_clustering('docs', 'topics')")
    for call in CALLS:
        connection.execute(sql.SQL("SELECT * FROM public.{}").format(sql.SQL(call).format(query)))


def test_operators_of_somebody_else_are_not_used(connection: Connection) -> None:
    """One of the very types, in a schema that many may write to, would be taken before Postgres' own."""
    rayed(connection, make(connection, VECTOR, 3), 0, 10, 80, 90)
    connection.execute("UPDATE docs SET metadata = '{\"label\": \"a\"}' WHERE id <> '10'")
    connection.execute(
        "CREATE FUNCTION caught(integer, float8) RETURNS float8 LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'another''s operator'; END $$;"
        "CREATE FUNCTION caught(float8, integer) RETURNS float8 RETURN caught($2, $1);"
        "CREATE FUNCTION caught_too(float8, numeric) RETURNS boolean RETURN caught(1, $1) > 0;"
        "CREATE OPERATOR public.- (FUNCTION = caught, LEFTARG = integer, RIGHTARG = float8);"
        "CREATE OPERATOR public./ (FUNCTION = caught, LEFTARG = integer, RIGHTARG = float8);"
        "CREATE OPERATOR public.> (FUNCTION = caught, LEFTARG = float8, RIGHTARG = integer);"
        "CREATE OPERATOR public.>= (FUNCTION = caught_too, LEFTARG = float8, RIGHTARG = numeric);"
        "CREATE FUNCTION caught_so(float8, integer) RETURNS boolean RETURN caught_too($1, $2);"
        "CREATE OPERATOR public.>= (FUNCTION = caught_so, LEFTARG = float8, RIGHTARG = integer);"
        "CREATE FUNCTION caught_so(real, integer) RETURNS boolean RETURN caught_too($1, $2);"
        "CREATE OPERATOR public.> (FUNCTION = caught_so, LEFTARG = real, RIGHTARG = integer)"
    )

    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")
    for call in (*CALLS, "docs_hybrid({}, 'text')", 'docs_search_where({}, \'{{"label": "a"}}\')'):
        connection.execute(sql.SQL("SELECT * FROM {}").format(sql.SQL(call).format(sql.SQL("'[1,0,0]'"))))


def test_vectors_of_zeros_are_no_answer(connection: Connection) -> None:
    """They have no direction, hence no distance. embedq writes none, but an own table may hold some."""
    docs = make(connection, Kind("vector", is_own=True), 3)
    fill(connection, docs, [Stored(str(each), angle(each), {"label": "a"}) for each in (1, 10, 80, 90)])
    fill(connection, docs, [Stored("7", [0, 0, 0], {"label": "none"}), Stored("8", [0, 0, 0])])

    def ids(call: str) -> set[str]:
        return {number for (number,) in rows(connection, f"SELECT id FROM {call}")}  # noqa: S608 # from below

    every = {"1", "10", "80", "90"}
    assert ids("docs_diverse('[1,0,0]', 6)") == every
    assert ids("docs_anomalies(3)") == ids("docs_outliers()") == every
    assert ids("docs_recommend(ARRAY['1', '7'])") == every - {"1"}
    assert ids("docs_recommend(ARRAY['7'])") == set()
    assert ids("docs_classify_rows('label')") == set()
    assert rows(connection, "SELECT label, confidence FROM docs_classify('[1,0,0]', 'label')") == [("a", 1)]
    assert rows(connection, "SELECT docs_diversity(ARRAY['1', '7'])") == [(None,)]
    made = rows(connection, "SELECT size, distance < 1 FROM embedq.make_clustering('docs', 'topics', 1)")
    assert made == [(4, True)]
    assert ids("docs_clusters('topics')") == every


def test_null_is_no_filter(connection: Connection) -> None:
    """Rows whose metadata are null or no object are found without one; with the empty one they are not."""
    docs = make(connection, Kind("vector", is_own=True), 3)
    rayed(connection, docs, 0, 10, 80, 90)
    connection.execute(sql.SQL('UPDATE {} SET facts = NULL WHERE "No" = 10').format(docs.table))
    connection.execute(sql.SQL("UPDATE {} SET facts = '[1]' WHERE \"No\" = 80").format(docs.table))

    asked = "SELECT id FROM docs_search_where('[1,0,0]', %s)"

    assert rows(connection, asked, None) == [("0",), ("10",), ("80",), ("90",)]
    assert rows(connection, asked, "{}") == [("0",), ("90",)]


@pytest.mark.parametrize("quantization", ["none", "halfvec", "binary"])
def test_candidates_come_from_the_index(connection: Connection, quantization: Quantization) -> None:
    """Each use that needs near rows scans the vector index, and the settings of the session are as before."""
    docs = create_collection(connection, name="docs", model=MODEL, dimensions=8, quantization=quantization)
    points = vectors(np.random.default_rng(1), 3000, 8)
    fill(connection, docs, [Stored(str(number), each, {"label": "a"}) for number, each in enumerate(points)])
    fill(connection, docs, [Stored("new", points[1])])
    build_index(connection, docs)
    query = literal(points[0])

    for call in (
        "docs_recommend(ARRAY['1', '2'], ARRAY['3'])",
        "docs_anomalies(10, ARRAY['1', '2', '3', '4', '5', '6', '7'])",
        f"docs_diverse('{query}')",
        f"docs_diverse('{query}', 10, 0.5, 200)",
        f"docs_classify('{query}', 'label')",
        "docs_classify_rows('label')",
    ):
        before = scans(connection)
        with connection.transaction():
            rows(connection, f"SELECT FROM {call}")
            assert rows(connection, "SHOW hnsw.iterative_scan") == [("off",)]
        assert scans(connection) > before, call


def test_own_table_need_not_have_metadata(connection: Connection) -> None:
    """All but classification is made; there is no content to show, and no filter."""
    docs = make(connection, Kind("vector", is_own=True, is_bare=True), 3)
    rayed(connection, docs, 0, 10, 80, 90)

    (first,) = rows(connection, "SELECT * FROM docs_recommend(ARRAY['0'], k => 1)")
    made = rows(connection, "SELECT proname::text FROM pg_proc WHERE proname LIKE 'docs\\_class%%'")

    assert first[:4] == ("10", 0, None, None)
    assert made == []
    assert len(rows(connection, "SELECT FROM docs_outliers()")) == 4
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="no metadata that a filter"):
        rows(connection, "SELECT FROM docs_outliers('{}')")
    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")
    assert len(rows(connection, "SELECT FROM docs_clusters('topics')")) == 4


def scans(connection: Connection) -> int:
    """How often the collection's vector index was scanned."""
    rows(connection, "SELECT pg_stat_force_next_flush()")
    asked = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'docs_embedding_idx'"
    ((count,),) = rows(connection, asked)
    return int(count)


def test_vector_of_another_generation_is_refused(connection: Connection) -> None:
    """Whichever function takes one."""
    rayed(connection, make(connection, VECTOR, 3), 0, 90)
    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")

    for call in (
        "docs_diverse('[1,0,0]', generation => {})",
        "docs_classify('[1,0,0]', 'label', generation => {})",
        "embedq.nearest_clusters('docs', 'topics', '[1,0,0]', generation => {})",
    ):
        rows(connection, f"SELECT FROM {call.format(1)}")
        with pytest.raises(psycopg.DataError, match="of generation 2, collection 'docs' holds generation 1"):
            rows(connection, f"SELECT FROM {call.format(2)}")


def test_hidden_rows_stay_hidden(connection: Connection, docs: Collection) -> None:
    """Row-level security of the table holds in every function: they run with the caller's rights."""
    for tenant, degrees in {"a": (0, 1), "b": (2, 3, 90)}.items():
        fill(connection, docs, [Stored(str(each), angle(each), {"tenant": tenant}) for each in degrees])
    rows_seen = {
        "docs_recommend(ARRAY['0', '2'])": {"1"},
        "docs_anomalies(1)": {"0", "1"},
        "docs_outliers()": {"0", "1"},
        "docs_diverse('[1,0,0]')": {"0", "1"},
        "docs_classify_rows('label')": set(),
        "docs_clusters('topics')": {"0", "1"},
    }
    rows(connection, "SELECT embedq.make_clustering('docs', 'topics', 2)")
    role = sql.Identifier(f"tenant_of_{connection.info.dbname}")
    connection.execute(sql.SQL("CREATE ROLE {}").format(role))
    try:
        grants = (
            "GRANT USAGE ON SCHEMA embedq TO {0};"
            " GRANT SELECT ON docs, embedq.clustering, embedq.cluster_member TO {0};"
            " ALTER TABLE docs ENABLE ROW LEVEL SECURITY;"
            """ CREATE POLICY own ON docs USING (metadata @> '{{"tenant": "a"}}')"""
        )
        connection.execute(sql.SQL(grants).format(role))
        connection.execute(sql.SQL("SET ROLE {}").format(role))
        for call, expected in rows_seen.items():
            found = rows(connection, f"SELECT id FROM {call}")  # noqa: S608 # from above
            assert {number for (number,) in found} == expected, call
        assert rows(connection, "SELECT docs_diversity(ARRAY['0', '90'])") == [(None,)]
        labels = rows(connection, "SELECT label FROM docs_classify('[0,1,0]', 'tenant')")
        assert labels == [("a",)]
    finally:
        connection.execute("RESET ROLE")
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))
