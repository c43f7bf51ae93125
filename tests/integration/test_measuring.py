"""Recall is measured: exact search and the index, held against each other in one snapshot."""

from __future__ import annotations

import pytest
from psycopg import sql

from embedq_worker.errors import RecallUnknown
from embedq_worker.store.collection import Quantization, VectorType
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.indexes.measuring import Measurement
from embedq_worker.store.indexes.recall import Query
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.search import as_text
from tests.support.recalled import GOOD, POOR, ROWS, K, brute_force, collection_of, vectors


@pytest.mark.parametrize(
    ("kind", "quantization"),
    [("vector", "none"), ("halfvec", "none"), ("vector", "halfvec"), ("vector", "binary")],
)
def test_exact_is_exact_and_the_index_is_used(
    connection: Connection, kind: VectorType, quantization: Quantization
) -> None:
    """What counts as true is what numpy finds; the index answered each time, and was not asked for that."""
    docs = collection_of(connection, kind=kind, quantization=quantization)
    work = Measurement(connection, docs, K)
    with work.snapshot():
        queries = work.draw(20)
        truths = work.search_exactly(queries, 60)
        figures = work.search_by_index(truths, [20, 1000])

    assert len({query.row for query in queries}) == 20
    assert [truth.query for truth in truths] == queries
    for truth in truths:
        expected = [distance for _, distance in brute_force(truth.query, ROWS, K)]
        assert truth.distances == pytest.approx(expected, abs=1e-6 if kind == "vector" else 1e-3)
    assert [each.by_index for each in figures] == [1, 1]
    assert figures[-1].recall > 0.98


def test_plan_of_the_exact_search(connection: Connection) -> None:
    """Reads the table, while the same statement without the setting reads the index."""
    docs = collection_of(connection, rows=6000)
    work = Measurement(connection, docs, K)
    query = as_text(vectors(1)[0])
    explain = sql.SQL("EXPLAIN ") + work.exact
    named = {"query": query, "k": K, "filter": None}

    def plan() -> str:
        return str(connection.execute(explain, named).fetchall())

    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        assert "docs_embedding_idx" in plan()
        connection.execute("SET LOCAL enable_indexscan = off")
        connection.execute("SET LOCAL enable_seqscan = on")
        assert "docs_embedding_idx" not in plan()
        assert "Seq Scan on docs" in plan()


def test_recall_is_what_is_missing(connection: Connection) -> None:
    """Of a poor index, the mean and the worst as counted by hand from the function's rows."""
    docs = collection_of(connection, index=POOR)
    work = Measurement(connection, docs, K)
    with work.snapshot():
        queries = work.draw(30)
        truths = work.search_exactly(queries, 60)
        (figures,) = work.search_by_index(truths, [15])
    shares = []
    connection.execute("SET enable_seqscan = off")
    connection.execute("SET hnsw.ef_search = 16")  # one more: the row finds itself
    for query in queries:
        found = connection.execute("SELECT id FROM docs_search(%s, %s)", (query.vector, K + 1)).fetchall()
        assert query.row is not None
        ids = [int(id_) for (id_,) in found if id_ != query.row[0]][:K]
        shares.append(len(set(ids) & {row for row, _ in brute_force(query, ROWS, K)}) / K)

    assert figures.recall == pytest.approx(sum(shares) / len(shares))
    assert figures.worst == min(shares)
    assert figures.recall < 0.8
    assert 0 < figures.p50 <= figures.p95


def test_ties_are_no_misses(connection: Connection) -> None:
    """Every row is there twenty times: any ten of the equal ones are as good."""
    docs = collection_of(connection, rows=50, index=None)
    connection.execute(
        "INSERT INTO docs (id, content, embedding, version)"
        " SELECT id || '-' || copy, content, embedding, 1 FROM docs, generate_series(1, 19) AS copy"
    )
    build_index(connection, docs, GOOD)
    work = Measurement(connection, docs, K)
    with work.snapshot():
        truths = work.search_exactly(work.draw(20), 60)
        (figures,) = work.search_by_index(truths, [40])
    assert all(truth.distances[-1] == pytest.approx(0, abs=1e-6) for truth in truths)
    assert figures.recall == 1


def test_one_search_that_takes_too_long_is_cut(connection: Connection) -> None:
    """In the middle of a statement; the transaction goes on."""
    docs = collection_of(connection)
    connection.execute("ALTER TABLE docs RENAME TO slow")
    connection.execute(
        "CREATE VIEW docs AS SELECT * FROM slow"
        " WHERE pg_sleep(CASE WHEN id = '7' THEN 20 ELSE 0 END) IS NOT NULL"
    )
    work = Measurement(connection, docs, K)
    work._usable_indexes = lambda: ["docs_embedding_idx"]  # type: ignore[method-assign]  # a view has none
    with work.snapshot():
        with pytest.raises(RecallUnknown, match="not one exact search was done within"):
            work.search_exactly([Query(vector=as_text(vectors(1)[0]))], 0.2)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_reader_with_row_level_security(connection: Connection, database_url: str) -> None:
    """A role that may read only some rows, on a read-only connection: they are all that there is to find."""
    docs = collection_of(connection)
    for statement in (
        "DROP ROLE IF EXISTS recall_reader",
        "CREATE ROLE recall_reader",
        "GRANT USAGE ON SCHEMA embedq TO recall_reader",
        "GRANT SELECT ON docs TO recall_reader",
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY even ON docs USING (id::int % 2 = 0)",
    ):
        connection.execute(statement)
    with connect(database_url) as reading:
        reading.execute("SET default_transaction_read_only = on")
        reading.execute("SET ROLE recall_reader")
        work = Measurement(reading, docs, K)
        with work.snapshot():
            queries = work.draw(20)
            truths = work.search_exactly(queries, 60)
            (figures,) = work.search_by_index(truths, [1000])
    assert all(int(query.row[0]) % 2 == 0 for query in queries if query.row)
    even = [distance for row, distance in brute_force(queries[0], ROWS, ROWS) if row % 2 == 0]
    assert truths[0].distances == pytest.approx(even[:K], abs=1e-6)
    assert figures.recall == 1
    connection.execute("DROP OWNED BY recall_reader")
    connection.execute("DROP ROLE recall_reader")


def test_writes_meanwhile_change_nothing(connection: Connection, database_url: str) -> None:
    """One snapshot: rows that are deleted after the exact searches are still found by the index."""
    docs = collection_of(connection)
    with connect(database_url) as measuring, connect(database_url) as writing:
        work = Measurement(measuring, docs, K)
        with work.snapshot():
            truths = work.search_exactly(work.draw(5), 60)
            writing.execute("DELETE FROM docs")
            (figures,) = work.search_by_index(truths, [1000])
    assert figures.recall == 1
