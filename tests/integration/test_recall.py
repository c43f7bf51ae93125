"""``embedq recall``: what the command measures, recommends and refuses."""

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
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.building import build_index, drop_index
from embedq_worker.store.indexes.measuring import Measurement
from embedq_worker.store.indexes.status import index_report
from embedq_worker.store.own_table.table import OwnNames, find_own_table
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.registry import publish_registry
from embedq_worker.store.search import as_text
from tests.support.recalled import GOOD, MODEL, POOR, K, collection_of, vectors


@pytest.fixture
def command(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `embedq recall docs` with more arguments."""
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["recall", "docs", *arguments])

    return run


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


def test_partitioned_table(connection: Connection, command: Any) -> None:
    """Its index is built by hand, and has the sizes and scans of its parts."""
    connection.execute(
        "CREATE TABLE articles (id text PRIMARY KEY, embedding vector(32)) PARTITION BY HASH (id);"
        "CREATE TABLE even PARTITION OF articles FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE odd PARTITION OF articles FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    own = find_own_table(connection, OwnNames(table="articles"))
    docs = create_collection(connection, name="docs", model=MODEL, own=own)
    with connection.cursor().copy("COPY articles (id, embedding) FROM STDIN") as copy:
        for number, vector in enumerate(vectors(500)):
            copy.write_row((str(number), as_text(vector)))
    with pytest.raises(CollectionConflict, match="is partitioned") as caught:
        build_index(connection, docs, GOOD)
    connection.execute(str(caught.value).partition("run ")[2].encode())

    result = command("--queries", "10", "--ef-search", "400", "--json")

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["figures"][0]["recall"], said["figures"][0]["by_index"]) == (1, 1)
    (status,) = index_report(connection, docs).indexes
    assert (status.name, status.valid) == ("docs_embedding_idx", True)
    assert status.scans > 0
    assert status.bytes > 500 * 32 * 4
    with pytest.raises(CollectionConflict, match="is partitioned") as caught:
        drop_index(connection, docs)
    connection.execute(str(caught.value).partition("run ")[2].encode())
    assert index_report(connection, docs).indexes == []


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
