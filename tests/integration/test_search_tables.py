"""The search functions on own tables, under row-level security, and what they say of mistakes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import psycopg
import pytest
from psycopg import sql

from embedq_sql import statement
from embedq_worker.catalogue import Model
from embedq_worker.embedded.postgres import Postgres
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.functions import make_functions
from embedq_worker.store.postgres.connections import Connection, connect

MODEL = Model(id="small", dimensions=3)
QUERY = "[1,0,0]"


@pytest.fixture(scope="module")
def database(postgres_server: Postgres, migrated_template: str) -> Iterator[str]:
    """A database with two collections, which no test changes."""
    url = postgres_server.create_database("search_tables", migrated_template)
    with connect(url) as connection:
        make_docs(connection)
        make_articles(connection)
    yield url
    postgres_server.drop_database("search_tables")


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """A connection in a transaction of which nothing stays."""
    with connect(database) as opened, opened.transaction(force_rollback=True):
        yield opened


def make_docs(connection: Connection) -> None:
    """Five rows, the farther from the query the higher the number; 2 and 4 are hidden from some."""
    create_collection(connection, name="docs", model=MODEL)
    connection.execute(
        "INSERT INTO docs (id, content, metadata, embedding, version)"
        " SELECT i::text, 'lease ' || i, jsonb_build_object('hidden', i IN (2, 4)), ARRAY[5, i, 0]::real[], 1"
        " FROM generate_series(1, 5) AS i"
    )


OWN = Collection(
    id=0,
    name="own",
    table_schema="public",
    table_name="articles",
    model="small",
    dimensions=3,
    vector_type="halfvec",
    versions="clock",
    is_managed=False,
    key_column="Number",
    key_type="integer",
    vector_column="vec",
    content_column=None,
    metadata_column=None,
)


def make_articles(connection: Connection) -> None:
    """A table of somebody's own: another key, no texts, no metadata, an article without a vector, and columns
    that have names of arguments."""
    connection.execute(
        'CREATE TABLE articles ("Number" integer PRIMARY KEY, vec halfvec(3), distance text,'
        " query halfvec(3) DEFAULT '[0,1,0]', k integer DEFAULT 1, generation integer DEFAULT 7);"
        "INSERT INTO articles SELECT i, ARRAY[5, i, 0]::real[]::halfvec FROM generate_series(1, 5) AS i;"
        "INSERT INTO articles VALUES (6, NULL)"
    )
    row = connection.execute(statement("register_collection"), msgspec.structs.asdict(OWN)).fetchone()
    assert row
    make_functions(connection, msgspec.structs.replace(OWN, id=row[0]))


def ids(connection: Connection, call: str) -> list[str]:
    """The ids that a function gives, in its order."""
    rows = connection.execute(sql.SQL(f"SELECT id FROM {call}".replace("$q", f"'{QUERY}'")))  # noqa: S608 # from below
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("own_search($q)", "12345"),
        ("embedq.search('own', $q, 3)", "123"),
        ("own_search_many(ARRAY[$q, '[0,1,0]']::halfvec[], 2)", "1254"),
        ("own_search_page($q, 10)", "12345"),
        ("own_search_page($q, 3, depth => 2)", "123"),
        ("own_similar('3')", "4251"),
        ("own_documents($q)", "12345"),
    ],
)
def test_own_tables_are_searched(connection: Connection, call: str, expected: str) -> None:
    """Rows without a vector are in no answer; ids are the keys as text."""
    assert ids(connection, call) == list(expected)


def test_own_table_has_the_functions_that_it_can_have(connection: Connection) -> None:
    """None that looks at texts or metadata, and the search by name says so."""
    made = connection.execute("SELECT proname FROM pg_proc WHERE proname LIKE 'own\\_%%'").fetchall()

    assert {"own_search", "own_similar"} <= {name for (name,) in made}
    assert not {"own_search_where", "own_hybrid"} & {name for (name,) in made}
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="'own' has no metadata that a filter"):
        connection.execute("SELECT embedq.search('own', '[1,0,0]', 3, '{}')")


@pytest.mark.parametrize(
    "call",
    [
        "public.docs_search($q)",
        "public.docs_search_where($q, '{}')",
        "public.docs_search_many(ARRAY[$q]::public.vector[])",
        "public.docs_search_page($q)",
        "public.docs_documents($q)",
        "public.docs_hybrid($q, 'lease')",
        "embedq.search('docs', $q)",
    ],
)
def test_functions_need_no_search_path(connection: Connection, call: str) -> None:
    """Also in the first call of a session."""
    connection.execute("SET LOCAL search_path = pg_catalog")

    assert ids(connection, call) == list("12345")
    assert ids(connection, "public.own_similar('3')") == list("4251")


def test_no_queries_are_no_rows(connection: Connection) -> None:
    """None at all, and those of several that are null."""
    assert ids(connection, "docs_search_many(NULL)") == ids(connection, "docs_search_many('{}')") == []
    found = connection.execute(
        "SELECT id, ordinality FROM docs_search_many(ARRAY[NULL, %s]::vector[], 1)", (QUERY,)
    )
    assert found.fetchall() == [("1", 2)]


@pytest.mark.parametrize(
    "call",
    [
        "docs_search(NULL)",
        "docs_search((SELECT embedding FROM docs WHERE id = 'none'))",
        "docs_search_where(NULL, '{}')",
        """docs_search_where(NULL, '{"hidden": true}')""",
        "docs_search_page(NULL)",
        "docs_documents(NULL)",
        "docs_hybrid(NULL, 'lease')",
        "docs_diverse(NULL)",
        "docs_classify(NULL, 'hidden')",
        "embedq.search('docs', NULL)",
        "embedq.search('docs', NULL, 10, '{}')",
    ],
)
def test_no_query_is_no_rows(connection: Connection, call: str) -> None:
    """A vector that is null, as of a row that is not there, is near to nothing."""
    assert connection.execute(sql.SQL("SELECT FROM " + call)).fetchall() == []


def test_own_name_that_would_end_a_body_is_refused(connection: Connection) -> None:
    """Functions are made of the names of tables and columns; these could be code."""
    ending = msgspec.structs.replace(OWN, vector_column="vec$$; DROP TABLE articles; $$")

    with pytest.raises(CollectionConflict, match="has \\$\\$ in it"):
        make_functions(connection, ending)


def test_own_key_that_cannot_be_is_an_error(connection: Connection) -> None:
    """The id of an example is cast to the key's type."""
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        connection.execute("SELECT own_similar('three')")


def become_reader(connection: Connection) -> None:
    """Act from now on as a role that may read the table and search, and sees what is not hidden."""
    connection.execute(
        "CREATE ROLE reader; GRANT USAGE ON SCHEMA embedq TO reader;"
        "GRANT SELECT ON docs, embedq.collection TO reader;"
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY;"
        """CREATE POLICY shown ON docs FOR SELECT TO reader USING (metadata @> '{"hidden": false}');"""
        "SET LOCAL ROLE reader"
    )


CALLS = {
    "docs_search($q)": "12345",
    "embedq.search('docs', $q)": "12345",
    "embedq.search('docs', $q, 10, '{}')": "12345",
    "docs_search_where($q, '{}')": "12345",
    """docs_search_where($q, '{"hidden": true}')""": "24",
    "docs_search_many(ARRAY[$q, '[0,1,0]']::vector[], 5)": "1234554321",
    "docs_search_page($q)": "12345",
    "docs_search_page($q, 10, depth => 2)": "12345",
    "docs_similar('1')": "2345",
    "docs_documents($q)": "12345",
    "docs_hybrid($q, 'lease')": "12345",
    "docs_hybrid($q, '4', vector_weight => 0)": "4",
}


@pytest.mark.parametrize("call", CALLS)
def test_policies_of_the_table_hold(connection: Connection, call: str) -> None:
    """Every function runs with the caller's rights: no row that a policy hides is in an answer."""
    shown = list(CALLS[call])
    assert ids(connection, call) == shown

    become_reader(connection)
    assert ids(connection, call) == [each for each in shown if each not in "24"]


def test_hidden_example_is_like_none(connection: Connection) -> None:
    """Whoever may not see an item does not see what it is like."""
    become_reader(connection)

    assert ids(connection, "docs_similar('2')") == ids(connection, "docs_similar('none')") == []


WITH_QUERY = (
    "docs_search({q}, 1, {g})",
    "docs_search_where({q}, '{{}}', 1, {g})",
    "docs_search_many(ARRAY[{q}]::vector[], 1, {g})",
    "docs_search_page({q}, 1, generation => {g})",
    "docs_documents({q}, 1, {g})",
    "docs_hybrid({q}, 'lease', 1, generation => {g})",
    "embedq.search('docs', {q}, 1, NULL, {g})",
    "embedq.search('docs', {q}, 1, '{{}}', {g})",
)


@pytest.mark.parametrize("call", WITH_QUERY)
def test_mistaken_query_vectors_are_refused(connection: Connection, call: str) -> None:
    """Of another generation or another size: an error that says so, never an answer."""
    asked = sql.SQL("SELECT id FROM " + call)  # noqa: S608 # from above

    assert connection.execute(asked.format(q="[1,0,0]", g=1)).fetchall() == [("1",)]
    other = r"of generation 2, collection 'docs' holds generation 1"
    with pytest.raises(psycopg.DataError, match=other), connection.transaction():
        connection.execute(asked.format(q="[1,0,0]", g=2))
    with pytest.raises(psycopg.DataError, match="dimensions"), connection.transaction():
        connection.execute(asked.format(q="[1,0]", g=1))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("docs_search_page($q, after => '[1, 2]')", "after is not the place of a row"),
        ("docs_hybrid($q, 'lease', text_weight => -1)", "a weight is not a number from 0 up"),
        ("docs_hybrid($q, 'lease', vector_weight => NULL)", "a weight is not a number from 0 up"),
        ("docs_hybrid($q, 'lease', vector_weight => 'NaN')", "a weight is not a number from 0 up"),
        ("docs_recommend(ARRAY['1'], ARRAY['5'], 3, NULL)", "disliked_weight is not a number from 0 up"),
        ("docs_recommend(ARRAY['1'], ARRAY['5'], 3, 'NaN')", "disliked_weight is not a number from 0 up"),
        ("own_outliers('{}')", "'own' has no metadata that a filter could look at"),
        ("embedq.search('dogs', $q)", "there is no collection 'dogs'"),
    ],
)
def test_mistakes_are_explained(connection: Connection, call: str, said: str) -> None:
    """In words, and with what to do instead."""
    with pytest.raises(psycopg.Error, match=said) as caught:
        ids(connection, call)

    assert caught.value.diag.message_hint


WITH_K = (
    "docs_search($q, {k})",
    "docs_search_where($q, '{{}}', {k})",
    "docs_search_many(ARRAY[$q]::vector[], {k})",
    "docs_search_page($q, {k})",
    "docs_similar('1', {k})",
    "docs_documents($q, {k})",
    "docs_hybrid($q, 'lease', {k})",
    "docs_recommend(ARRAY['1'], k => {k})",
    "docs_anomalies({k})",
    "docs_diverse($q, {k})",
    "embedq.search('docs', $q, {k})",
)


@pytest.mark.parametrize("call", WITH_K)
def test_k_means_the_same_everywhere(connection: Connection, call: str) -> None:
    """None for 0, all for null or the greatest integer, and an error for less than 0."""
    every = ids(connection, call.format(k=100))
    assert len(every) >= 4

    assert ids(connection, call.format(k=0)) == []
    assert sorted(ids(connection, call.format(k="NULL"))) == sorted(every)
    assert sorted(ids(connection, call.format(k=2**31 - 1))) == sorted(every)
    with pytest.raises(psycopg.Error, match="must not be negative"):
        ids(connection, call.format(k=-1))
