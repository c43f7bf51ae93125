"""The index of full text search: on the expression that functions match by, with its configuration."""

from __future__ import annotations

import msgspec
import pytest
from psycopg import sql

from embedq_worker.catalogue import Model
from embedq_worker.errors import CollectionBusy, CollectionConflict
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.indexes.full_text import build_full_text_index, drop_full_text_index
from embedq_worker.store.indexes.session import BuildOptions
from embedq_worker.store.indexes.status import index_report
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.indexed import fill

MODEL = Model(id="small", dimensions=3)


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """A collection of English texts, numbered."""
    made = create_collection(connection, name="docs", model=MODEL, text_search="english")
    fill(connection, made, 2_000)
    return made


def plan(connection: Connection, text_search: str) -> str:
    """How Postgres finds the rows with a word, in the expression that functions use."""
    query = sql.SQL(
        "EXPLAIN SELECT FROM docs AS stored WHERE to_tsvector({0}::regconfig, stored.content::text)"
        " @@ websearch_to_tsquery({0}::regconfig, '1234')"
    )
    return "\n".join(line for (line,) in connection.execute(query.format(text_search)))


def test_words_are_found_by_the_index(connection: Connection, docs: Collection) -> None:
    """In the collection's configuration and no other; built once, dropped once."""
    assert build_full_text_index(connection, docs, BuildOptions())
    assert not build_full_text_index(connection, docs, BuildOptions())

    assert "docs_content_idx" in plan(connection, "english")
    assert "Seq Scan" in plan(connection, "simple")
    (index,) = index_report(connection, docs).indexes
    assert (index.kind, index.valid) == ("full text", True)

    assert drop_full_text_index(connection, docs)
    assert not drop_full_text_index(connection, docs)


def test_hybrid_search_uses_it(connection: Connection, docs: Collection) -> None:
    """The function's expression and the index's are one: the statistics count the scan."""
    build_full_text_index(connection, docs, BuildOptions())
    connection.execute("SET enable_seqscan = off")

    found = connection.execute("SELECT id FROM docs_hybrid('[1,1,1]', '1234', 1, vector_weight => 0)")

    assert found.fetchall() == [("1234",)]
    connection.execute("SELECT pg_stat_force_next_flush()")
    assert [index.scans for index in index_report(connection, docs).indexes] == [1]


def test_what_a_killed_build_left_is_replaced(connection: Connection, docs: Collection) -> None:
    """An index that is not valid is built anew."""
    build_full_text_index(connection, docs, BuildOptions())
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_content_idx'::regclass"
    )

    assert build_full_text_index(connection, docs, BuildOptions(memory=64 << 20, workers=0))

    assert index_report(connection, docs).indexes[0].valid


def test_what_cannot_be_is_refused(connection: Connection, docs: Collection, database_url: str) -> None:
    """A name that is taken, a collection without texts, and a build beside another."""
    connection.execute("CREATE TABLE docs_content_idx ()")
    with pytest.raises(CollectionConflict, match="docs_content_idx is taken"):
        build_full_text_index(connection, docs, BuildOptions())
    with connect(database_url) as other:
        other.execute("SELECT pg_advisory_lock(73058, %s)", (docs.id,))
        with pytest.raises(CollectionBusy):
            build_full_text_index(connection, docs, BuildOptions())
    textless = msgspec.structs.replace(docs, content_column=None)
    with pytest.raises(CollectionConflict, match="no column of texts"):
        build_full_text_index(connection, textless, BuildOptions())
