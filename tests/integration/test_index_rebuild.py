"""Rebuilding an index beside the old one: searches never lack one, and nothing half done stays."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from embedq.errors import UnknownCollection
from embedq_sql import statement
from embedq_worker.catalogue import Model
from embedq_worker.errors import CollectionBusy, CollectionConflict, VectorTooLong
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.collections import create_collection, drop_collection, get_collection
from embedq_worker.store.functions import searched_by
from embedq_worker.store.indexes import rebuild as index_rebuild
from embedq_worker.store.indexes.building import build, build_index, drop_index
from embedq_worker.store.indexes.progress import progress
from embedq_worker.store.indexes.rebuild import Changes, rebuild_index
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.indexes.steps import index_lock
from embedq_worker.store.own_table.table import OwnNames, find_own_table
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.search import search
from embedq_worker.store.vector_index import vector_indexes
from tests.support.indexed import fill

MODEL = Model(id="small", dimensions=16)


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """A collection with 1,000 random vectors and an index."""
    made = create_collection(connection, name="docs", model=MODEL)
    fill(connection, made, 1_000)
    build_index(connection, made)
    return made


def found(connection: Connection, docs: Collection) -> dict[str, tuple[bool, str | None, list[str]]]:
    """The vector indexes by name: whether valid, quantisation, options."""
    return {
        index.name: (index.valid, index.quantization, index.options)
        for index in vector_indexes(connection, docs)
    }


DEFAULT = ["m=16", "ef_construction=64"]


def test_every_change_and_back(connection: Connection, docs: Collection) -> None:
    """Options, quantisation, both; what is not said stays; the registry and the functions follow."""
    for changes, expected in (
        (Changes(), ("none", DEFAULT)),
        (Changes(m=8), ("none", ["m=8", "ef_construction=64"])),
        (Changes(quantization="halfvec"), ("halfvec", ["m=8", "ef_construction=64"])),
        (
            Changes(quantization="binary", m=16, ef_construction=32),
            ("binary", ["m=16", "ef_construction=32"]),
        ),
        (Changes(quantization="none", m=40), ("none", ["m=40", "ef_construction=80"])),
    ):
        rebuilt = rebuild_index(connection, docs, changes)

        assert found(connection, docs) == {"docs_embedding_idx": (True, *expected)}
        assert get_collection(connection, "docs") == rebuilt
        assert rebuilt.quantization == expected[0]
        assert len(search(connection, "docs", [1.0] * 16, 5)) == 5


def test_without_an_index_it_is_a_build(connection: Connection) -> None:
    """Also with another quantisation."""
    docs = create_collection(connection, name="docs", model=MODEL)
    fill(connection, docs, 10)

    rebuild_index(connection, docs, Changes(quantization="binary"))

    assert found(connection, docs) == {"docs_embedding_idx": (True, "binary", DEFAULT)}


@pytest.mark.parametrize("quantization", ["halfvec", "binary"])
def test_without_an_index_the_functions_use_the_new_one(
    connection: Connection, quantization: Quantization
) -> None:
    """Of a collection that was quantised from the beginning, too."""
    docs = create_collection(connection, name="docs", model=MODEL, quantization=quantization)
    fill(connection, docs, 10)
    assert searched_by(connection, docs) == "none"

    rebuild_index(connection, docs)

    assert found(connection, docs) == {"docs_embedding_idx": (True, quantization, DEFAULT)}
    assert searched_by(connection, docs) == quantization


def test_what_was_read_before_the_lock_does_not_count(connection: Connection) -> None:
    """Another session has quantised the collection since: functions and index follow the registry."""
    before = create_collection(connection, name="docs", model=MODEL)
    fill(connection, before, 10)
    rebuild_index(connection, before, Changes(quantization="binary"))

    assert drop_index(connection, before)
    assert searched_by(connection, before) == "none"
    assert build_index(connection, before)

    assert found(connection, before) == {"docs_embedding_idx": (True, "binary", DEFAULT)}
    assert searched_by(connection, before) == "binary"


@pytest.mark.parametrize("command", [build_index, drop_index, rebuild_index])
def test_collection_that_is_gone(connection: Connection, command: Callable[..., object]) -> None:
    """Dropped since it was read, or dropped and created anew: nothing is done to what has its name."""
    before = create_collection(connection, name="docs", model=MODEL, quantization="binary")
    drop_collection(connection, "docs")
    with pytest.raises(UnknownCollection):
        command(connection, before)
    again = create_collection(connection, name="docs", model=MODEL, quantization="binary")
    build_index(connection, again)

    with pytest.raises(CollectionConflict, match="created anew"):
        command(connection, before)

    assert found(connection, again) == {"docs_embedding_idx": (True, "binary", DEFAULT)}


def test_collection_is_not_dropped_meanwhile(connection: Connection, database_url: str) -> None:
    """Somebody's table would let it go while its index is built, and get functions of no collection."""
    connection.execute("CREATE TABLE articles (id bigint PRIMARY KEY, embedding vector(16))")
    own = find_own_table(connection, OwnNames(table="articles"))
    docs = create_collection(connection, name="docs", model=MODEL, own=own, quantization="binary")
    with (
        connect(database_url) as other,
        index_lock(other, docs),
        pytest.raises(CollectionBusy, match="works on its indexes"),
    ):
        drop_collection(connection, "docs")

    drop_collection(connection, "docs")


def test_what_cannot_be_is_refused(connection: Connection, database_url: str) -> None:
    """Vectors that the index cannot hold, halves of halves, and two at the same time."""
    long = create_collection(
        connection,
        name="long",
        model=Model(id="l", dimensions=2_500),
        vector_type="vector",
        quantization="binary",
    )
    half = create_collection(connection, name="half", model=MODEL, vector_type="halfvec")
    with pytest.raises(VectorTooLong):
        rebuild_index(connection, long, Changes(quantization="none"))
    with pytest.raises(CollectionConflict, match="halves"):
        rebuild_index(connection, half, Changes(quantization="halfvec"))
    with connect(database_url) as other:
        other.execute("SELECT pg_advisory_lock(73058, %s)", (half.id,))
        with pytest.raises(CollectionBusy, match="another session"):
            rebuild_index(connection, half)


def test_searches_and_writes_go_on(connection: Connection, docs: Collection, database_url: str) -> None:
    """Through rebuild after rebuild each plan has an index, each answer is right, no write is lost."""
    over = threading.Event()
    plans: list[str] = []
    nearest: list[object] = []
    written: list[int] = []

    def searching() -> None:
        with connect(database_url) as mine:
            mine.execute("SET enable_seqscan = off")
            (vector,) = mine.execute("SELECT embedding::text FROM docs WHERE id = '7'").fetchone() or ("",)
            call = sql.SQL("SELECT id FROM docs_search({}, 3)").format(vector)
            explain = sql.SQL("EXPLAIN ") + call
            while not over.is_set():
                plans.append("\n".join(line for (line,) in mine.execute(explain)))
                nearest.append(mine.execute(call).fetchone())

    def writing() -> None:
        with connect(database_url) as mine:
            for number in count(1_001):
                if over.is_set():
                    return
                mine.execute(
                    "INSERT INTO docs (id, content, embedding, version) SELECT %s, 'new',"
                    " (SELECT array_agg(random() - 0.5) FROM generate_series(1, 16))::real[]::vector, 1",
                    (str(number),),
                )
                written.append(number)

    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(searching), pool.submit(writing)]
        try:
            for changes in (Changes(m=8), Changes(quantization="binary"), Changes(quantization="none")):
                rebuild_index(connection, docs, changes)
        finally:
            over.set()
        for each in work:
            each.result()

    assert set(nearest) == {("7",)}
    assert [plan for plan in plans if "Index Scan using docs_embedding_" not in plan] == []
    assert {"<~>" in plan for plan in plans} == {True, False}
    connection.execute("SET enable_seqscan = off")
    for number in written[:: len(written) // 20 + 1]:
        reached = connection.execute(
            "SELECT id FROM docs ORDER BY embedding <=> (SELECT embedding FROM docs WHERE id = %s) LIMIT 1",
            (str(number),),
        )
        assert reached.fetchone() == (str(number),)


def test_interrupted_rebuild_leaves_the_old_index(
    connection: Connection, docs: Collection, database_url: str
) -> None:
    """Ctrl-C while the build waits takes the new one down; registry and functions are as before."""
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

        with ThreadPoolExecutor(1) as pool:
            interrupting = pool.submit(interrupt)
            with pytest.raises(KeyboardInterrupt):
                rebuild_index(connection, docs, Changes(quantization="binary"))
            interrupting.result()

    assert found(connection, docs) == {"docs_embedding_idx": (True, "none", DEFAULT)}
    assert get_collection(connection, "docs") == docs


def test_interrupted_outside_of_waiting(
    connection: Connection, docs: Collection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C that meets the driver's own code leaves the build running: it is ended all the same."""
    execute = connection.execute
    writer = psycopg.connect(database_url)

    def execute_or_leave(query: Any, *parameters: Any) -> Any:
        if "DROP INDEX" in str(query):
            writer.rollback()
        if "CREATE INDEX" not in str(query):
            return execute(query, *parameters)
        connection.pgconn.send_query(query.as_bytes(connection))
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "execute", execute_or_leave)
    with writer:
        writer.execute("DELETE FROM docs WHERE id = '1'")  # the build waits for its end
        with pytest.raises(KeyboardInterrupt):
            rebuild_index(connection, docs, Changes(quantization="binary"))

    assert found(connection, docs) == {"docs_embedding_idx": (True, "none", DEFAULT)}
    with connect(database_url) as other, index_lock(other, docs):
        pass


def test_killed_after_the_build_goes_on_from_there(connection: Connection, docs: Collection) -> None:
    """A new index that is what is wanted is swapped in as it is; any other is built anew."""
    build(connection, docs, docs.new_index_name, BuildOptions(m=8))
    (made,) = connection.execute("SELECT 'docs_embedding_new'::regclass::oid").fetchone() or (0,)

    rebuild_index(connection, docs, Changes(m=8))

    assert connection.execute("SELECT 'docs_embedding_idx'::regclass::oid").fetchone() == (made,)

    build(connection, docs, docs.new_index_name, BuildOptions(m=8))
    rebuild_index(connection, docs, Changes(m=10))
    assert found(connection, docs) == {"docs_embedding_idx": (True, "none", ["m=10", "ef_construction=64"])}


def test_killed_after_the_swap_is_cleaned_up(connection: Connection, docs: Collection) -> None:
    """An old index, and a new one that is not valid, are removed by the next rebuild."""
    build(connection, docs, docs.old_index_name, BuildOptions())
    build(connection, docs, docs.new_index_name, BuildOptions())
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_embedding_new'::regclass"
    )

    rebuild_index(connection, docs)

    assert found(connection, docs) == {"docs_embedding_idx": (True, "none", DEFAULT)}


def test_registry_that_is_locked_is_waited_for_no_longer_than_a_while(
    connection: Connection, docs: Collection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new index is kept, both serve, and the next rebuild goes on from there."""
    monkeypatch.setattr(index_rebuild, "statement", impatient)
    with connect(database_url) as other, other.transaction():
        other.execute("LOCK TABLE embedq.collection IN SHARE MODE")
        with pytest.raises(CollectionBusy, match="built but not in use"):
            rebuild_index(connection, docs, Changes(quantization="halfvec"))
        assert set(found(connection, docs)) == {"docs_embedding_idx", "docs_embedding_new"}
        assert get_collection(connection, "docs") == docs
    (made,) = connection.execute("SELECT 'docs_embedding_new'::regclass::oid").fetchone() or (0,)

    rebuild_index(connection, docs, Changes(quantization="halfvec"))

    assert connection.execute("SELECT 'docs_embedding_idx'::regclass::oid").fetchone() == (made,)
    assert set(found(connection, docs)) == {"docs_embedding_idx"}


def impatient(name: str) -> LiteralString:
    """The named statements, with a wait of milliseconds for locks."""
    return "SET LOCAL lock_timeout = '50ms'" if name == "limit_lock_wait" else statement(name)
