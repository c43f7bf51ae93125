"""Quantised indexes: searched by their own order, ranked again by the vectors, once they are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, LiteralString

import numpy as np
import pytest
from psycopg import sql

from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.store.collection import Collection, Quantization, VectorType
from embedq_worker.store.collections import create_collection
from embedq_worker.store.functions import searched_by
from embedq_worker.store.indexes.advice import advice_on
from embedq_worker.store.indexes.building import build, build_index, drop_index
from embedq_worker.store.indexes.rebuild import rebuild_index
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.indexes.status import index_report
from embedq_worker.store.indexes.steps import index_lock, leave_index
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.search import search
from embedq_worker.store.vector_index import usable_quantization, vector_indexes

MODEL = Model(id="small", dimensions=32, allowed_dimensions=DimensionRange(min=1, max=16_000))
KINDS: list[tuple[VectorType, Literal["halfvec", "binary"]]] = [
    ("vector", "halfvec"),
    ("vector", "binary"),
    ("halfvec", "binary"),
]
ORDERED_BY = {
    "halfvec": "(embedding)::halfvec(32) <=>",
    "binary": "(binary_quantize(embedding))::bit(32) <~>",
}


def collection_of(
    connection: Connection, vectors: np.ndarray, vector_type: VectorType, quantization: Quantization
) -> Collection:
    """A collection with these vectors, by their row numbers."""
    docs = create_collection(
        connection,
        name="docs",
        model=MODEL,
        dimensions=vectors.shape[1],
        vector_type=vector_type,
        quantization=quantization,
    )
    with connection.cursor().copy("COPY docs (id, content, embedding, version) FROM STDIN") as copy:
        for number, vector in enumerate(vectors):
            copy.write_row((str(number), "text", text_of(vector), 1))
    connection.execute("ANALYZE docs")
    return docs


def random_vectors(rows: int, dimensions: int = 32) -> np.ndarray:
    """Normal, and the same each time."""
    return np.random.default_rng(7).standard_normal((rows, dimensions), dtype=np.float32)


def text_of(vector: np.ndarray) -> str:
    """A vector as Postgres reads it."""
    return f"[{','.join(map(str, vector.tolist()))}]"


def plan(connection: Connection, vector: np.ndarray, arguments: LiteralString = "5") -> str:
    """How Postgres would run the search function."""
    call = sql.SQL("EXPLAIN SELECT * FROM docs_search({}, {})").format(text_of(vector), sql.SQL(arguments))
    return "\n".join(line for (line,) in connection.execute(call))


@pytest.mark.parametrize(("vector_type", "quantization"), KINDS)
def test_functions_follow_the_index(
    connection: Connection, vector_type: VectorType, quantization: Literal["halfvec", "binary"]
) -> None:
    """Without the index they are exact; with it they take candidates by its order and rank them again."""
    vectors = random_vectors(5_000)
    docs = collection_of(connection, vectors, vector_type, quantization)
    exact = "Sort Key: ((stored.embedding <=>"
    assert exact in plan(connection, vectors[0])

    assert build_index(connection, docs)

    (index,) = vector_indexes(connection, docs)
    assert (index.valid, index.quantization) == (True, quantization)
    for arguments in ("5", "5, 1"):
        found = plan(connection, vectors[0], arguments)
        assert "Index Scan using docs_embedding_idx on docs" in found
        assert ORDERED_BY[quantization] in found
        assert "Sort Key: near.distance" in found
    apply_migrations(connection)
    assert ORDERED_BY[quantization] in plan(connection, vectors[0])

    assert drop_index(connection, docs)

    assert exact in plan(connection, vectors[0])
    assert usable_quantization(connection, docs) == "none"


def test_index_of_a_killed_command_comes_into_use(connection: Connection) -> None:
    """The server built it and nobody made the functions anew: building again does."""
    vectors = random_vectors(5_000)
    docs = collection_of(connection, vectors, "vector", "binary")
    build(connection, docs, docs.index_name, BuildOptions())
    assert "<~>" not in plan(connection, vectors[0])

    assert not build_index(connection, docs)

    assert ORDERED_BY["binary"] in plan(connection, vectors[0])


def again(connection: Connection, docs: Collection) -> None:
    """Build what is there."""
    assert not build_index(connection, docs)


MENDING: list[Callable[[Connection, Collection], object]] = [
    again,
    rebuild_index,
    lambda connection, _: apply_migrations(connection),
]


@pytest.mark.parametrize("mend", MENDING, ids=["build", "rebuild", "migrate"])
def test_drop_that_was_killed_is_seen_and_mended(
    connection: Connection, mend: Callable[[Connection, Collection], object]
) -> None:
    """It has taken the functions off the index, which is still there."""
    docs = collection_of(connection, random_vectors(10), "vector", "binary")
    build_index(connection, docs)
    assert advice_on(docs, index_report(connection, docs)) == []
    leave_index(connection, docs)

    report = index_report(connection, docs)
    assert (report.quantization, report.searched_by) == ("binary", "none")
    (advice,) = advice_on(docs, report)
    assert (advice.code, advice.text[:22]) == ("functions", "searches do not use th")

    mend(connection, docs)

    assert searched_by(connection, docs) == "binary"
    assert advice_on(docs, index_report(connection, docs)) == []


@pytest.mark.parametrize(
    "mend", [*MENDING[1:], drop_index, build_index], ids=["rebuild", "migrate", "drop", "build"]
)
def test_index_that_somebody_dropped_is_missed(
    connection: Connection, mend: Callable[[Connection, Collection], object]
) -> None:
    """Functions that search by it would read every row, and not give the nearest."""
    docs = collection_of(connection, random_vectors(10), "vector", "halfvec")
    build_index(connection, docs)
    connection.execute("DROP INDEX docs_embedding_idx")

    (advice,) = advice_on(docs, index_report(connection, docs))
    assert (advice.code, advice.text[:34]) == ("functions", "searches miss an index of quantiza")

    mend(connection, docs)

    assert advice_on(docs, index_report(connection, docs)) == []


def test_migration_while_an_index_is_dropped(connection: Connection, database_url: str) -> None:
    """It leaves the functions off the index, although that is still there."""
    docs = collection_of(connection, random_vectors(10), "vector", "binary")
    build_index(connection, docs)
    with connect(database_url) as other, index_lock(other, docs):
        leave_index(other, docs)

        apply_migrations(connection)

        assert searched_by(connection, docs) == "none"
    apply_migrations(connection)
    assert searched_by(connection, docs) == "binary"


@pytest.mark.parametrize(("vector_type", "quantization"), KINDS)
def test_results_are_ranked_by_the_vectors(
    connection: Connection, vector_type: VectorType, quantization: Literal["halfvec", "binary"]
) -> None:
    """Exact distances, nearest first, and nearly the rows that numpy finds: also more than a scan gives."""
    vectors = random_vectors(2_000, 256)
    docs = collection_of(connection, vectors, vector_type, quantization)
    build_index(connection, docs)
    connection.execute("SET enable_seqscan = off")
    connection.execute("SET hnsw.ef_search = 200")  # what a graph by chance misses is not asked here
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found_of_wanted = []

    for query in (vectors[0], vectors[1] + vectors[2], -vectors[3]):
        distances = 1 - unit @ (query / np.linalg.norm(query))
        hits = search(connection, "docs", query.tolist(), 60)
        given = [hit.distance for hit in hits]
        assert given == sorted(given)
        assert given == pytest.approx(distances[[int(hit.id) for hit in hits]], abs=1e-3)
        assert len({hit.id for hit in hits}) == 60
        nearest = {str(number) for number in np.argsort(distances)[:10]}
        found_of_wanted.append(len(nearest & {hit.id for hit in hits[:10]}))

    assert sum(found_of_wanted) >= {"halfvec": 29, "binary": 26}[quantization]


def test_ef_search_is_what_finds_more(connection: Connection) -> None:
    """A scan of bits ranks again all that it looked at, so that the one setting gives better answers."""
    vectors = random_vectors(5_000)
    docs = collection_of(connection, vectors, "vector", "binary")
    build_index(connection, docs)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def found(ef_search: int) -> int:
        connection.execute(sql.SQL("SET hnsw.ef_search = {}").format(ef_search))
        total = 0
        for number in range(20):
            nearest = {str(other) for other in np.argsort(-(unit @ unit[number]))[:10]}
            call = sql.SQL("SELECT id FROM docs_search({})").format(text_of(vectors[number]))
            total += len(nearest & {hit for (hit,) in connection.execute(call)})
        return total

    assert found(20) < found(200) < found(1_000)


def test_all_rows_are_given_where_no_number_is(connection: Connection) -> None:
    """A null k has no limit, whatever the index holds."""
    docs = collection_of(connection, random_vectors(100), "vector", "binary")
    build_index(connection, docs)
    call = sql.SQL("SELECT count(*) FROM docs_search({}, NULL)").format(text_of(random_vectors(1)[0]))

    assert connection.execute(call).fetchone() == (100,)


def test_vectors_beyond_the_plain_index_are_searched(connection: Connection) -> None:
    """4,096 dimensions of four bytes each: stored, indexed by bits, found."""
    vectors = random_vectors(200, 4_096)
    docs = collection_of(connection, vectors, "vector", "binary")

    assert build_index(connection, docs)

    hits = search(connection, "docs", vectors[7].tolist(), 3)
    assert hits[0].id == "7"
    assert hits[0].distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("quantization", ["halfvec", "binary"])
def test_other_functions_search_by_it_too(connection: Connection, quantization: Quantization) -> None:
    """They share the ordering: the index counts their scans, and the nearest is the right one."""
    vectors = random_vectors(3_000)
    docs = collection_of(connection, vectors, "vector", quantization)
    build_index(connection, docs)
    connection.execute("SET enable_seqscan = off")
    query = text_of(vectors[5])
    calls: list[LiteralString] = [
        "docs_search_where({}, '{{}}', 3)",
        "docs_search_page({}, 3)",
        "docs_search_many(ARRAY[{}::vector], 3)",
        "docs_documents({}, 3)",
        "docs_hybrid({}, 'nothing', 3)",
        "embedq.search('docs', {}, 3)",
    ]

    for call in calls:
        before = scans(connection)
        found = connection.execute(sql.SQL(f"SELECT id FROM {call}").format(query)).fetchone()  # noqa: S608 # from above
        assert found == ("5",), call
        assert scans(connection) == before + 1, call


def scans(connection: Connection) -> int:
    """How often the index was scanned."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'docs_embedding_idx'"
    ).fetchone()
    return int(row[0]) if row else 0
