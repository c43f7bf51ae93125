"""The HNSW index: built after the load, used by the search function, cleaned up after."""

from __future__ import annotations

import os
import signal
import threading

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from embedq.cli import main
from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.errors import CollectionBusy, CollectionConflict, StoreError
from embedq_worker.store.collection import Collection, VectorType
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.building import build_index, drop_index
from embedq_worker.store.indexes.progress import Progress, progress
from embedq_worker.store.indexes.rebuild import rebuild_index
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.vector_index import vector_indexes
from tests.support.indexed import fill

MODEL = Model(id="small", dimensions=16, allowed_dimensions=DimensionRange(min=1, max=4000))


def collection_of(connection: Connection, rows: int, vector_type: VectorType = "vector") -> Collection:
    """A collection with random vectors."""
    docs = create_collection(connection, name="docs", model=MODEL, vector_type=vector_type)
    made = sql.SQL(
        "INSERT INTO docs (id, content, metadata, embedding, version) SELECT i::text, 'text', '{{}}',"
        " (SELECT array_agg(random() - 0.5 + 0 * i * j) FROM generate_series(1, 16) AS j)::real[]::vector, 1"
        " FROM generate_series(1, {}) AS i"
    )
    connection.execute(made.format(rows))
    return docs


def plan(connection: Connection, call: str) -> str:
    """How Postgres would run a SELECT from a call, the query's vector taken from a row."""
    (vector,) = connection.execute("SELECT embedding::vector::text FROM docs LIMIT 1").fetchone() or ("",)
    explained = connection.execute(sql.SQL(f"EXPLAIN SELECT * FROM {call}").format(sql.Literal(vector)))  # noqa: S608 # from the test
    return "\n".join(line for (line,) in explained)


@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_search_function_uses_the_index(connection: Connection, vector_type: VectorType) -> None:
    """The function is inlined: after the build the plan scans the index, before it the table."""
    docs = collection_of(connection, 5000, vector_type)
    connection.execute("ANALYZE docs")
    assert "Seq Scan on docs" in plan(connection, "docs_search({}, 5)")

    assert build_index(connection, docs)

    for call in ("docs_search({}, 5)", "docs_search({}) JOIN docs USING (id, chunk)"):
        found = plan(connection, call)
        assert "Index Scan using docs_embedding_idx on docs" in found
        assert "Function Scan" not in found


def test_search_by_name_uses_the_index(connection: Connection) -> None:
    """The generic function's inner query scans the index too, by the index's own count of scans."""
    docs = collection_of(connection, 5000)
    build_index(connection, docs)

    connection.execute("SELECT embedq.search('docs', (SELECT embedding FROM docs LIMIT 1), 5)")

    connection.execute("SELECT pg_stat_force_next_flush()")
    scans = connection.execute(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'docs_embedding_idx'"
    )
    assert scans.fetchone() == (1,)


def test_build_is_done_once(connection: Connection) -> None:
    """The same options find the index there; others are refused until it is dropped."""
    docs = collection_of(connection, 10)
    assert vector_indexes(connection, docs) == []

    assert build_index(connection, docs)
    assert not build_index(connection, docs)
    with pytest.raises(CollectionConflict, match="index rebuild docs"):
        build_index(connection, docs, BuildOptions(m=8))
    assert drop_index(connection, docs)
    assert not drop_index(connection, docs)
    assert build_index(connection, docs, BuildOptions(m=8, ef_construction=32, workers=0))

    (index,) = vector_indexes(connection, docs)
    assert index.valid
    assert index.options == ["m=8", "ef_construction=32"]


def test_index_of_the_name_that_somebody_made(connection: Connection) -> None:
    """Postgres itself names one so: the same one is kept, and any other is described."""
    docs = collection_of(connection, 10)
    connection.execute("CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)")

    assert not build_index(connection, docs)
    with pytest.raises(CollectionConflict, match="with m=16, ef_construction=64, quantization=none; run"):
        build_index(connection, docs, BuildOptions(m=8))

    connection.execute("DROP INDEX docs_embedding_idx")
    connection.execute("CREATE INDEX ON docs USING hnsw (embedding vector_l2_ops) WITH (m = 8)")
    with pytest.raises(CollectionConflict, match="with m=8, ef_construction=64, which serves no search"):
        build_index(connection, docs)
    rebuild_index(connection, docs)
    assert [index.quantization for index in vector_indexes(connection, docs)] == ["none"]


def test_two_builds_do_not_meet(connection: Connection, database_url: str) -> None:
    """While one session holds the build, another is told so."""
    docs = collection_of(connection, 10)
    with connect(database_url) as other:
        other.execute("SELECT pg_advisory_lock(73058, %s)", (docs.id,))
        with pytest.raises(CollectionBusy, match="another session"):
            build_index(connection, docs)

        other.execute("SELECT pg_advisory_unlock(73058, %s)", (docs.id,))
        assert build_index(connection, docs)


def test_leftover_of_a_failed_build_is_replaced(connection: Connection) -> None:
    """An invalid index of ours, as a killed build leaves it, is removed and built anew."""
    docs = collection_of(connection, 10)
    build_index(connection, docs)
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_embedding_idx'::regclass"
    )

    assert build_index(connection, docs)

    assert [index.valid for index in vector_indexes(connection, docs)] == [True]


def test_cancelled_build_leaves_nothing(connection: Connection, database_url: str) -> None:
    """A build that is cancelled while it waits for a writer is taken down; its progress was seen."""
    docs = collection_of(connection, 10)
    pid = connection.info.backend_pid
    with connect(database_url) as watcher, psycopg.connect(database_url) as writer:
        writer.execute("DELETE FROM docs WHERE id = '1'")
        seen = []

        def cancel() -> None:
            while not (found := progress(watcher, pid)) or not found.phase.startswith("waiting for"):
                threading.Event().wait(0.01)
            seen.append(found)
            watcher.execute("SELECT pg_cancel_backend(%s)", (pid,))
            # The build of an index waits for this transaction, and so does the removal.
            writer.rollback()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(StoreError, match="not built"):
            build_index(connection, docs)
        thread.join()

    assert seen
    assert vector_indexes(connection, docs) == []
    assert progress(connection, pid) is None


def test_interrupted_build_leaves_nothing(connection: Connection, database_url: str) -> None:
    """Ctrl-C while the build waits takes it down, and the connection can be used again."""
    docs = collection_of(connection, 10)
    pid = connection.info.backend_pid
    with connect(database_url) as watcher, psycopg.connect(database_url) as writer:
        writer.execute("DELETE FROM docs WHERE id = '1'")

        def interrupt() -> None:
            while not progress(watcher, pid):
                threading.Event().wait(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            while progress(watcher, pid):
                threading.Event().wait(0.01)
            writer.rollback()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            build_index(connection, docs)
        thread.join()

    assert vector_indexes(connection, docs) == []


def test_commands_build_and_drop(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`embedq index build` and `drop` say what they did, also the second time."""
    collection_of(connection, 100)
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["index", *arguments, "docs"])
        assert result.exit_code == 0, result.output
        return result.output

    assert "built docs_embedding_idx in" in run("build")
    assert "is there" in run("build")
    assert run("rebuild", "--quantization", "binary", "--m", "8").endswith(
        "s: quantization binary, m 8, ef_construction 64\n"
    )
    assert "dropped docs_embedding_idx" in run("drop")
    assert "no index" in run("drop")
    assert "built docs_content_idx in" in run("build", "--full-text")
    assert "is there" in run("build", "--full-text")
    assert "dropped docs_content_idx" in run("drop", "--full-text")
    assert "no index docs_content_idx" in run("drop", "--full-text")


def test_progress_of_loading(connection: Connection, database_url: str) -> None:
    """Blocks grow to all of them, parallel workers or not, and the time left is told."""
    docs = create_collection(connection, name="docs", model=MODEL, dimensions=256)
    fill(connection, docs, 3_000)
    seen: list[Progress] = []
    over = threading.Event()
    pid = connection.info.backend_pid

    def watch() -> None:
        with connect(database_url) as watcher:
            while not over.wait(0.01):
                if found := progress(watcher, pid):
                    seen.append(found)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        build_index(connection, docs, BuildOptions(workers=1))
    finally:
        over.set()
        thread.join()

    loading = [each for each in seen if each.phase == "building index: loading tuples"]
    blocks = [each.done for each in loading]
    assert blocks == sorted(blocks)
    assert 0 < blocks[len(blocks) // 2] <= loading[-1].total
    left = [each.seconds_left for each in loading if each.seconds_left is not None]
    assert left
    assert left[-1] <= max(left)


def test_time_left() -> None:
    """At the pace so far; unknown before the first block, and in phases that wait for others."""
    loading = "building index: loading tuples"
    assert Progress(loading, done=25, total=100, seconds=10).seconds_left == 30
    assert Progress(loading, done=0, total=100, seconds=10).seconds_left is None
    assert Progress("waiting for writers before build", 1, 2, 10).seconds_left is None
