"""``embedq recall``: the index held against exact search, on indexes that are poor and good on purpose."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from psycopg import sql

from embedq.cli import main
from embedq.contract import QueryReply, queue_name, reply_key
from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.errors import RecallUnknown
from embedq_worker.store.collection import Collection, Quantization, VectorType
from embedq_worker.store.collections import create_collection
from embedq_worker.store.connections import Connection, connect
from embedq_worker.store.index_session import BuildOptions
from embedq_worker.store.indexes import build_index
from embedq_worker.store.measuring import Measurement
from embedq_worker.store.own_table import OwnNames, find_own_table
from embedq_worker.store.recall import Query
from embedq_worker.store.registry import publish_registry
from embedq_worker.store.search import as_text

MODEL = Model(id="small", dimensions=32, allowed_dimensions=DimensionRange(min=1, max=4000))
POOR = BuildOptions(m=2, ef_construction=4, workers=0)
GOOD = BuildOptions(m=16, ef_construction=100, workers=0)
ROWS = 2000
K = 10


def vectors(rows: int) -> NDArray[np.float32]:
    """Random directions: few are near each other, which is hard for an index."""
    return np.random.default_rng(7).standard_normal((rows, MODEL.dimensions)).astype(np.float32)


def collection_of(
    connection: Connection,
    rows: int = ROWS,
    index: BuildOptions | None = GOOD,
    kind: VectorType = "vector",
    quantization: Quantization = "none",
) -> Collection:
    """A collection of such vectors; ids are numbers, every hundredth row is rare."""
    docs = create_collection(
        connection, name="docs", model=MODEL, vector_type=kind, quantization=quantization
    )
    with connection.cursor().copy("COPY docs (id, content, metadata, embedding, version) FROM STDIN") as copy:
        for number, vector in enumerate(vectors(rows)):
            copy.write_row(
                (str(number), "a text", json.dumps({"rare": number % 100 == 0}), as_text(vector), 1)
            )
    if index is not None:
        build_index(connection, docs, index)
    return docs


def brute_force(query: Query, rows: int, k: int) -> list[tuple[int, float]]:
    """Number and distance of the nearest rows, by numpy, the query itself left out."""
    stored = vectors(rows).astype(np.float64)
    wanted = np.array(json.loads(query.vector))
    distances = 1 - stored @ wanted / np.linalg.norm(stored, axis=1) / np.linalg.norm(wanted)
    order = [int(row) for row in np.argsort(distances) if query.row is None or query.row[0] != str(row)]
    return [(row, float(distances[row])) for row in order[:k]]


@pytest.fixture
def command(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `embedq recall docs` with more arguments."""
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["recall", "docs", *arguments])

    return run


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


def test_command_recommends(connection: Connection, command: Any, database_url: str) -> None:
    """The smallest that reaches the target, with statements that set it for new sessions."""
    collection_of(connection, index=POOR)

    result = command("--queries", "30", "--ef-search", "400,20,1000", "--target", "0.3", "--json")

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    recalls = {each["ef_search"]: each["recall"] for each in said["figures"]}
    assert list(recalls) == [20, 400, 1000]
    assert recalls[20] < recalls[400]
    assert said["recommended"] == min(ef for ef, share in recalls.items() if share >= 0.3)
    assert said["present"] == 40
    for statement in said["statements"]:
        connection.execute(statement)
        with connect(database_url) as another:
            another.execute("SELECT '[1]'::vector")
            assert another.execute("SHOW hnsw.ef_search").fetchone() == (str(said["recommended"]),)
    lines = command("--queries", "30", "--ef-search", "400").stdout
    assert f"ef_search is {said['recommended']}" in lines
    assert "easier query" in lines


def test_command_says_what_to_try(connection: Connection, command: Any) -> None:
    """Where no value that was measured reaches the target."""
    collection_of(connection, index=POOR)

    result = command("--queries", "10", "--ef-search", "10,20", "--target", "1")

    assert result.exit_code == 0, result.output
    assert "none reaches a recall of 1" in result.stdout
    assert "--ef-search 40,1000" in result.stdout
    assert "embedq index rebuild docs --m 32 --ef-construction 200" in result.stdout
    assert "ALTER" not in result.stdout


def test_filter(connection: Connection, command: Any) -> None:
    """`--filter` measures the collection's filtered search: among few matches exact, without the index."""
    collection_of(connection, index=POOR)

    result = command("--queries", "10", "--ef-search", "20", "--filter", '{"rare": true}', "--json")

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    (figures,) = said["figures"]
    assert (figures["recall"], figures["rows"], figures["by_index"]) == (1, K, 0)
    assert any("exact at any ef_search" in each for each in said["advice"])
    assert "no row beside the query" in command("--filter", '{"rare": 1}').stderr


def test_without_an_index(connection: Connection, command: Any) -> None:
    """None, or one that a failed build left behind: nothing to measure, and what to do."""
    docs = collection_of(connection, rows=5, index=None)
    result = command()
    assert result.exit_code == 1
    assert "recall is 1" in result.stderr
    assert "embedq index build docs" in result.stderr

    build_index(connection, docs)
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_embedding_idx'::regclass"
    )
    result = command()
    assert result.exit_code == 1
    assert "not valid" in result.stderr


def test_index_that_is_not_used(connection: Connection, command: Any) -> None:
    """Exact answers say nothing of the index: no figures, no recommendation."""
    collection_of(connection)
    connection.execute(
        "CREATE OR REPLACE FUNCTION docs_search(query vector, k integer DEFAULT 10,"
        " generation integer DEFAULT NULL)"
        " RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)"
        " LANGUAGE sql STABLE AS 'SELECT id, chunk, content, metadata, embedding <=> query FROM docs"
        " ORDER BY 1 - (embedding <=> query) DESC LIMIT k'"
    )

    result = command("--queries", "5", "--ef-search", "20")

    assert result.exit_code == 1, result.output
    assert "was not used: 100% of the searches at hnsw.ef_search 20" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("key_type", ["bigint", "text"])
def test_own_table(connection: Connection, command: Any, key_type: str) -> None:
    """Stored rows of somebody's table are queries, too."""
    connection.execute(
        sql.SQL("CREATE TABLE articles (id {} PRIMARY KEY, embedding vector(32))").format(sql.SQL(key_type))
    )
    with connection.cursor().copy("COPY articles (id, embedding) FROM STDIN") as copy:
        for number, vector in enumerate(vectors(500)):
            copy.write_row((str(number), as_text(vector)))
    own = find_own_table(connection, OwnNames(table="articles"))
    docs = create_collection(connection, name="docs", model=MODEL, own=own, keep_vectors=True)
    build_index(connection, docs, GOOD)

    result = command("--queries", "10", "--ef-search", "400", "--json")

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["queries"], said["figures"][0]["recall"], said["figures"][0]["by_index"]) == (10, 1, 1)


def test_few_rows(connection: Connection, command: Any) -> None:
    """Fewer than k: as many as there are is all there is to find; one row alone has no neighbour."""
    collection_of(connection, rows=5)
    result = command("--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["queries"] == 5
    assert {each["recall"] for each in said["figures"]} == {1}
    assert not said["chosen"]
    assert {each["by_index"] for each in said["figures"]} == {1}
    assert any("reads the whole table" in each for each in said["advice"])

    connection.execute("DELETE FROM docs WHERE id <> '3'")
    assert "no row beside the query" in command().stderr
    connection.execute("DELETE FROM docs")
    assert "is empty" in command().stderr


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


def test_time_limit(connection: Connection, command: Any) -> None:
    """When the time for exact searches is over, what was done counts; if that is nothing, it is said."""
    docs = collection_of(connection)
    work = Measurement(connection, docs, K)
    with work.snapshot():
        queries = work.draw(3)
        slow = [queries[0], *queries[1:] * 100_000]
        truths = work.search_exactly(slow, 0.3)
        assert 1 <= len(truths) < len(slow)
        assert work.search_by_index(truths[:3], [40])

    result = command("--seconds", "0.000001")
    assert result.exit_code == 1
    assert "--seconds" in result.stderr


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


def test_questions_are_embedded_by_workers(
    connection: Connection, command: Any, broker_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--texts`: each line is a query, blank ones are not; nothing is left out of the results."""
    docs = collection_of(connection)
    monkeypatch.setenv("EMBEDQ_BROKER_URL", broker_url)
    questions = tmp_path / "questions.txt"
    questions.write_text("how?\n\nwhy?\nnot asked\n")
    asked = vectors(2)

    with redis.from_url(broker_url) as client:
        publish_registry(client, [docs])
        worker = threading.Thread(target=answer, args=(client, asked))
        worker.start()
        result = command("--texts", str(questions), "--queries", "2", "--ef-search", "1000", "--json")
        worker.join()

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["queries"], said["source"], said["figures"][0]["recall"]) == (2, "texts", 1)


def answer(client: redis.Redis, asked: NDArray[np.float32]) -> None:
    """Play the worker."""
    for vector in asked:
        popped = client.brpop([queue_name("docs", "query")], timeout=10)
        assert isinstance(popped, (list, tuple))
        task = json.loads(popped[1])["headers"]["id"]
        client.lpush(reply_key(task), msgspec.json.encode(QueryReply(v=1, vector=vector.tolist())))


@pytest.mark.parametrize(
    "arguments",
    [("--filter", "no"), ("--filter", "[]"), ("--ef-search", "0"), ("--ef-search", "a"), ("--target", "2")],
)
def test_wrong_options(command: Any, arguments: tuple[str, ...]) -> None:
    """Are refused before anything is asked."""
    assert command(*arguments).exit_code == 2
