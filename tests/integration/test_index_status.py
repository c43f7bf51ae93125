"""`embedq index status`: what it says of an index, and advice for each case, provoked for real."""

from __future__ import annotations

import threading
from typing import LiteralString

import msgspec
import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from embedq.cli import main
from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes import advice as index_advice
from embedq_worker.store.indexes.advice import advice_on
from embedq_worker.store.indexes.building import build, build_index
from embedq_worker.store.indexes.full_text import build_full_text_index
from embedq_worker.store.indexes.progress import progress_of
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.indexes.status import index_report
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.own_table.table import OwnNames, find_own_table
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.indexed import fill

MODEL = Model(id="small", dimensions=16, allowed_dimensions=DimensionRange(min=1, max=2_000))
QUICK = BuildOptions(m=4, ef_construction=8)


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """A collection with 2,000 random vectors, no index."""
    made = create_collection(connection, name="docs", model=MODEL)
    fill(connection, made, 2_000)
    return made


@pytest.fixture
def few_rows_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of many rows is said of these."""
    monkeypatch.setattr(index_advice, "WORTH_AN_INDEX", 1_000)


def advice(connection: Connection, docs: Collection) -> dict[str, str]:
    """What should be done, by code."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    return {each.code: each.text for each in advice_on(docs, index_report(connection, docs))}


@pytest.mark.usefixtures("few_rows_count")
def test_missing(connection: Connection, docs: Collection) -> None:
    """Until it is built; an index that the functions cannot use does not count."""
    assert advice(connection, docs) == {"missing": "searches read every row: run `embedq index build docs`"}
    connection.execute("CREATE INDEX others ON docs USING hnsw (embedding vector_l2_ops) WITH (m = 4)")
    assert "missing" in advice(connection, docs)

    build_index(connection, docs, QUICK)

    assert advice(connection, docs) == {}


@pytest.mark.usefixtures("few_rows_count")
@pytest.mark.parametrize(
    ("quantization", "definition"),
    [
        ("none", "(embedding vector_cosine_ops) WITH (m = 4) WHERE version > 1"),
        ("halfvec", "((embedding::halfvec(16)) halfvec_cosine_ops) WITH (m = 4) WHERE version > 1"),
        ("halfvec", "((subvector(embedding, 1, 8)::halfvec(8)) halfvec_cosine_ops) WITH (m = 4)"),
        ("halfvec", "((l2_normalize(embedding)::halfvec(16)) halfvec_cosine_ops) WITH (m = 4)"),
        ("binary", "((binary_quantize(subvector(embedding, 1, 8))::bit(8)) bit_hamming_ops) WITH (m = 4)"),
    ],
)
def test_index_of_a_part(
    connection: Connection, quantization: Quantization, definition: LiteralString
) -> None:
    """Somebody's index of some rows, or of something else of each vector, serves no search function."""
    docs = create_collection(connection, name="docs", model=MODEL, quantization=quantization)
    fill(connection, docs, 2_000)
    connection.execute(sql.SQL("CREATE INDEX others ON docs USING hnsw ") + sql.SQL(definition))
    apply_migrations(connection)

    report = index_report(connection, docs)

    assert [index.quantization for index in report.indexes] == [None]
    assert report.searched_by == "none"
    assert set(advice(connection, docs)) == {"missing"}


@pytest.mark.parametrize("quantization", ["none", "halfvec", "binary"])
def test_index_is_known_from_any_search_path(connection: Connection, quantization: Quantization) -> None:
    """Also where pgvector's names are shown with their schema, and of columns that need quotes."""
    connection.execute('CREATE TABLE mine (id bigint PRIMARY KEY, "My Vector" vector(16))')
    own = find_own_table(connection, OwnNames(table="mine", vector="My Vector"))
    docs = create_collection(connection, name="docs", model=MODEL, own=own, quantization=quantization)
    build_index(connection, docs, QUICK)
    connection.execute("SET search_path = pg_catalog")

    (index,) = index_report(connection, docs).indexes

    assert index.quantization == quantization


@pytest.mark.parametrize("name", ["docs_embedding_idx", "docs_embedding_new", "docs_embedding_old", "others"])
def test_left_behind(connection: Connection, docs: Collection, database_url: str, name: str) -> None:
    """What a build or a rebuild that was killed leaves; not while somebody is at it."""
    build(connection, docs, name, QUICK)
    if name in ("docs_embedding_idx", "others"):
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", (name,))

    said = advice(connection, docs)["left_behind"]

    assert name in said
    assert ("DROP INDEX CONCURRENTLY public.others" if name == "others" else "index rebuild docs") in said
    with connect(database_url) as other:
        other.execute("SELECT pg_advisory_lock(73058, %s)", (docs.id,))
        assert advice(connection, docs) == {}


def test_bloated_and_dead_rows(connection: Connection) -> None:
    """Rows that go leave the index as large as it was, and until a vacuum searches find them."""
    docs = create_collection(connection, name="docs", model=MODEL, dimensions=256)
    connection.execute("ALTER TABLE docs SET (autovacuum_enabled = off)")
    fill(connection, docs, 6_000)
    build_index(connection, docs, QUICK)
    assert advice(connection, docs) == {}

    connection.execute("DELETE FROM docs WHERE id::integer > 1_500")

    said = advice(connection, docs)
    assert set(said) == {"bloated", "dead_rows"}
    assert said["bloated"].startswith("docs_embedding_idx has 4.")
    assert said["dead_rows"].startswith("4500 dead rows")
    connection.execute("VACUUM docs")
    assert set(advice(connection, docs)) == {"bloated"}
    assert (index_report(connection, docs).vacuumed_ago or 99) < 60


@pytest.mark.usefixtures("few_rows_count")
def test_not_used(connection: Connection, docs: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only after enough statistics, and no longer once a search has used it."""
    build_index(connection, docs, QUICK)
    assert advice(connection, docs) == {}
    monkeypatch.setattr(index_advice, "UNUSED_FOR", 0.0)
    assert "no search used docs_embedding_idx since it was built" in advice(connection, docs)["not_used"]

    connection.execute("SET enable_seqscan = off")
    connection.execute("SELECT docs_search((SELECT embedding FROM docs LIMIT 1), 1)").fetchall()

    assert advice(connection, docs) == {}
    (index,) = index_report(connection, docs).indexes
    assert index.scans == 1


def test_too_little_memory(connection: Connection, docs: Collection) -> None:
    """An index larger than what Postgres reckons with."""
    build_index(connection, docs, QUICK)

    connection.execute("SET effective_cache_size = '64kB'")

    said = advice(connection, docs)["memory"]
    assert "larger than effective_cache_size" in said
    assert "--quantization halfvec" in said


@pytest.mark.parametrize("quantization", ["none", "halfvec", "binary"])
@pytest.mark.parametrize("dimensions", [64, 1_536])
def test_size_that_is_needed(connection: Connection, dimensions: int, quantization: Quantization) -> None:
    """The estimate for a fresh index is what it takes, to 10 %."""
    docs = create_collection(
        connection, name="docs", model=MODEL, dimensions=dimensions, quantization=quantization
    )
    fill(connection, docs, 400)
    build_index(connection, docs, BuildOptions(m=16, ef_construction=32))

    (index,) = index_report(connection, docs).indexes

    assert index.needed_bytes == pytest.approx(index.bytes, rel=0.1)


def test_build_that_runs(connection: Connection, docs: Collection, database_url: str) -> None:
    """Its phase is shown, whoever runs it; nothing is advised meanwhile."""
    with connect(database_url) as watcher, psycopg.connect(database_url) as writer:
        writer.execute("DELETE FROM docs WHERE id = '1'")
        thread = threading.Thread(target=build_index, args=(connection, docs, QUICK))
        thread.start()
        while not (progress_of(watcher, docs)):
            threading.Event().wait(0.01)
        report = index_report(watcher, docs)
        writer.rollback()
        thread.join()

    assert report.is_worked_on
    assert report.building is not None
    assert report.building.phase.startswith("waiting for")
    assert advice_on(docs, report) == []


def test_command(
    connection: Connection, docs: Collection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page for people and one for machines."""
    build_index(connection, docs, QUICK)
    build_full_text_index(connection, docs, BuildOptions())
    connection.execute(
        sql.SQL("ALTER DATABASE {} SET effective_cache_size = '64kB'").format(
            sql.Identifier(connection.info.dbname)
        )
    )
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)

    shown = CliRunner().invoke(main, ["index", "status", "docs"])
    told = CliRunner().invoke(main, ["index", "status", "--json"])

    assert (shown.exit_code, told.exit_code) == (0, 0), shown.output + told.output
    lines = shown.output.splitlines()
    assert lines[0].startswith("docs  2,000 rows, 0 dead; quantization none; statistics of ")
    assert lines[1].startswith("  docs_embedding_idx  vector, m=4, ef_construction=8; ")
    assert lines[2].startswith("  docs_content_idx  full text; ")
    assert "larger than effective_cache_size" in lines[3]
    ((page,)) = msgspec.json.decode(told.output)
    assert [index["kind"] for index in page["report"]["indexes"]] == ["vector", "full text"]
    assert [each["code"] for each in page["advice"]] == ["memory"]
