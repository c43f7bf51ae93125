"""Searching by a vector: per collection, by name, and from the command line."""

from __future__ import annotations

import json
import threading

import msgspec
import numpy as np
import psycopg
import pytest
import redis
from click.testing import CliRunner
from psycopg import sql

from embedq.cli import main
from embedq.contract import QueryReply, queue_name, reply_key
from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.errors import StoreError
from embedq_worker.store.collection import Collection, VectorType
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.registry import publish_registry
from embedq_worker.store.search import search

MODEL = Model(id="small", dimensions=3, allowed_dimensions=DimensionRange(min=1, max=4000))


def fill(connection: Connection, collection: Collection, rows: int) -> None:
    """Rows 1, 2, … whose distance to [1, 0, 0] grows with the number."""
    made = sql.SQL(
        "INSERT INTO {} (id, content, metadata, embedding, version)"
        " SELECT i::text, 'text ' || i, jsonb_build_object('even', i % 2 = 0),"
        " ARRAY[cos(i * 3.0 / {}), sin(i * 3.0 / {}), 0]::real[], 1 FROM generate_series(1, {}) AS i"
    )
    connection.execute(made.format(collection.table, rows, rows, rows))


@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_nearest_rows_come_first(connection: Connection, vector_type: VectorType) -> None:
    """The k nearest rows with their cosine distances, nearest first."""
    docs = create_collection(connection, name="docs", model=MODEL, vector_type=vector_type)
    fill(connection, docs, 30)

    hits = search(connection, "docs", np.array([2, 0, 0], dtype=np.float32).tolist(), 3)

    assert [hit.id for hit in hits] == ["1", "2", "3"]
    assert [hit.distance for hit in hits] == pytest.approx([1 - np.cos(i / 10) for i in (1, 2, 3)], abs=1e-3)
    assert (hits[1].content, hits[1].metadata, hits[1].chunk) == ("text 2", {"even": True}, 0)


@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_query_may_be_given_as_people_have_it(connection: Connection, vector_type: VectorType) -> None:
    """A literal, an array that is cast, and a vector answer alike in both functions; k is 10 by default."""
    fill(connection, create_collection(connection, name="docs", model=MODEL, vector_type=vector_type), 30)
    expected = [(str(number),) for number in range(1, 11)]

    for call in (
        "docs_search('[1,0,0]')",
        "docs_search('[1,0,0]'::vector)",
        "docs_search(ARRAY[1,0,0]::real[]::vector)",
        "embedq.search('docs', '[1,0,0]')",
        "embedq.search('docs', ARRAY[1,0,0]::float8[]::vector)",
        "embedq.search('docs', '[1,0,0]', k => 10)",
    ):
        assert connection.execute(sql.SQL(f"SELECT id FROM {call}")).fetchall() == expected  # noqa: S608 # from above


def test_search_finds_its_way_from_any_search_path(connection: Connection) -> None:
    """A caller's search path changes nothing: the functions know their table and the operator."""
    connection.execute("CREATE SCHEMA shop")
    fill(connection, create_collection(connection, name="docs", model=MODEL, schema="shop"), 5)
    connection.execute("SET search_path = pg_catalog")

    found = connection.execute("SELECT id FROM shop.docs_search('[1,0,0]', 2)").fetchall()

    assert (
        found
        == connection.execute("SELECT id FROM embedq.search('docs', '[1,0,0]', 2)").fetchall()
        == [("1",), ("2",)]
    )


def test_search_by_name_gives_k_rows_through_an_index(connection: Connection) -> None:
    """More rows than an index scan gives by itself (hnsw.ef_search); the session's setting is as before."""
    docs = create_collection(connection, name="docs", model=MODEL)
    fill(connection, docs, 1000)
    build_index(connection, docs)
    connection.execute("SET enable_seqscan = off")

    with connection.transaction():
        assert len(search(connection, "docs", [1, 0, 0], 200)) == 200
        assert connection.execute("SHOW hnsw.iterative_scan").fetchone() == ("off",)
        assert len(connection.execute("SELECT FROM docs_search('[1,0,0]', 200)").fetchall()) == 40


def test_wrong_dimensions_and_unknown_names_are_explained(connection: Connection) -> None:
    """Both mistakes of a caller have an error of their own."""
    create_collection(connection, name="docs", model=MODEL)

    with pytest.raises(StoreError, match="have 3 dimensions, the query has 2"):
        search(connection, "docs", [1, 0])
    with pytest.raises(psycopg.errors.UndefinedTable, match="no collection 'dogs'"):
        connection.execute("SELECT embedq.search('dogs', '[1]')")


def test_filter_looks_at_metadata(connection: Connection) -> None:
    """Only rows that contain it, and all rows for an empty one."""
    fill(connection, create_collection(connection, name="docs", model=MODEL), 30)

    odd = search(connection, "docs", [1, 0, 0], 3, filter={"even": False})
    assert [hit.id for hit in odd] == ["1", "3", "5"]
    assert len(search(connection, "docs", [1, 0, 0], 40, filter={})) == 30
    assert search(connection, "docs", [1, 0, 0], filter={"even": 1}) == []


def test_vector_of_another_generation_is_refused(connection: Connection) -> None:
    """Told where a vector comes from, a search by it is refused where the collection has moved on."""
    fill(connection, create_collection(connection, name="docs", model=MODEL), 3)

    assert len(search(connection, "docs", [1, 0, 0], generation=1)) == 3
    with pytest.raises(StoreError, match="of generation 2, collection 'docs' holds generation 1"):
        search(connection, "docs", [1, 0, 0], generation=2)


def test_command_embeds_and_searches(
    connection: Connection, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`embedq search` has the text embedded by a worker and prints what SQL found."""
    docs = create_collection(connection, name="docs", model=MODEL)
    fill(connection, docs, 5)
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)
    monkeypatch.setenv("EMBEDQ_BROKER_URL", broker_url)

    with redis.from_url(broker_url) as client:
        publish_registry(client, [docs])
        for options in ((), ("--json",), ("--filter", '{"even": false}')):
            worker = threading.Thread(target=answer_once, args=(client,))
            worker.start()
            result = CliRunner().invoke(main, ["search", "docs", "which?", "-k", "2", *options])
            worker.join()
            assert result.exit_code == 0, result.output
            lines = result.stdout.splitlines()
            assert len(lines) == 2
            ids = [json.loads(line)["id"] if "--json" in options else line.split()[1] for line in lines]
            assert ids == (["1", "3"] if "--filter" in options else ["1", "2"])


def test_filter_of_the_command_is_a_json_object() -> None:
    """Anything else is refused before a worker is asked."""
    for mistaken in ("even", '["even"]', "{even: true}", '{"even": "\udcff"}', '{"a":' * 10_000):
        for command in (["search", "docs", "which?"], ["recall", "docs"]):
            result = CliRunner().invoke(main, [*command, "--filter", mistaken])

            assert result.exit_code == 2
            assert "give a JSON object" in result.output


def answer_once(client: redis.Redis) -> None:
    """Play the worker for one query."""
    popped = client.brpop([queue_name("docs", "query")], timeout=10)
    assert isinstance(popped, (list, tuple))
    task = json.loads(popped[1])["headers"]["id"]
    client.lpush(reply_key(task), msgspec.json.encode(QueryReply(v=1, vector=[1.0, 0.0, 0.0])))
