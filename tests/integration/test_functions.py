"""The functions of a collection: made with it, made anew, never somebody else's, for its model's vectors."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from embedq_worker.catalogue import Model
from embedq_worker.errors import CollectionConflict
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection, drop_collection
from embedq_worker.store.functions import FUNCTIONS, make_functions
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import Connection

MODEL = Model(id="small", dimensions=3)


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """A collection with two rows."""
    made = create_collection(connection, name="docs", model=MODEL)
    connection.execute(
        "INSERT INTO docs (id, content, embedding, version)"
        " VALUES ('1', 'a', '[1,0,0]', 1), ('2', 'b', '[0,1,0]', 1)"
    )
    return made


def signatures(connection: Connection) -> list[str]:
    """The collection's functions with their arguments."""
    found = connection.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'docs\\_%%' ORDER BY 1"
    )
    return [signature for (signature,) in found]


def test_every_template_makes_one_function(connection: Connection, docs: Collection) -> None:
    """Each has its comment, and all go with the collection."""
    assert len(signatures(connection)) == len(FUNCTIONS)
    uncommented = connection.execute(
        "SELECT proname FROM pg_proc WHERE proname LIKE 'docs\\_%%'"
        " AND obj_description(oid, 'pg_proc') NOT LIKE 'embedq: %%'"
    )
    assert uncommented.fetchall() == []

    drop_collection(connection, docs.name)

    assert signatures(connection) == []


@pytest.mark.usefixtures("docs")
def test_migrate_makes_them_anew(connection: Connection) -> None:
    """One that was dropped is back, one of older arguments is gone, and a view on the others stays."""
    made = signatures(connection)
    connection.execute("DROP FUNCTION docs_search")
    connection.execute("CREATE FUNCTION docs_search(vector) RETURNS int RETURN 1")
    connection.execute("COMMENT ON FUNCTION docs_search IS 'embedq: of an older version'")

    assert apply_migrations(connection) == []
    connection.execute("CREATE VIEW first AS SELECT id FROM docs_search('[1,0,0]', 1)")
    assert apply_migrations(connection) == []

    assert signatures(connection) == made
    assert connection.execute("SELECT id FROM first").fetchall() == [("1",)]


def test_making_them_twice_in_a_transaction_leaves_them(connection: Connection, docs: Collection) -> None:
    """What was replaced a moment ago is no leftover."""
    made = signatures(connection)
    with connection.transaction():
        make_functions(connection, docs)
        make_functions(connection, docs)

    assert signatures(connection) == made


def test_function_of_somebody_else_is_left_alone(connection: Connection, docs: Collection) -> None:
    """Whatever its arguments: two functions of one name would be mixed up."""
    connection.execute("CREATE FUNCTION docs_search(text) RETURNS int RETURN 1")

    with pytest.raises(CollectionConflict, match=r"public\.docs_search\(text\) is taken"):
        make_functions(connection, docs)


@pytest.mark.usefixtures("docs")
def test_view_on_older_arguments_is_named(connection: Connection) -> None:
    """What would have to be dropped with it is somebody's: they are asked to."""
    connection.execute("DROP FUNCTION docs_search")
    connection.execute("CREATE FUNCTION docs_search(vector) RETURNS int RETURN 1")
    connection.execute("COMMENT ON FUNCTION docs_search(vector) IS 'embedq: of an older version'")
    connection.execute("CREATE VIEW first AS SELECT docs_search('[1,0,0]'::vector)")

    with pytest.raises(CollectionConflict, match="views or functions were built on"):
        apply_migrations(connection)


@pytest.mark.usefixtures("docs")
def test_vector_of_another_generation_is_refused(connection: Connection) -> None:
    """With the generation that the table holds rows come, with another an error that says what to do."""
    call = sql.SQL("SELECT id FROM docs_search('[1,0,0]', 1, {})")
    assert connection.execute(call.format(1)).fetchall() == [("1",)]

    with pytest.raises(
        psycopg.DataError, match=r"of generation 2, collection 'docs' holds generation 1"
    ) as caught:
        connection.execute(call.format(2))
    assert "Embed the query again" in (caught.value.diag.message_hint or "")


def test_searching_needs_no_right_on_the_registry(connection: Connection, docs: Collection) -> None:
    """A reader has the table and the schema, and the generation is checked all the same."""
    role = sql.Identifier(f"reader_of_{connection.info.dbname}")
    connection.execute(sql.SQL("CREATE ROLE {}").format(role))
    try:
        connection.execute(
            sql.SQL("GRANT USAGE ON SCHEMA embedq TO {0}; GRANT SELECT ON docs TO {0}").format(role)
        )
        connection.execute(sql.SQL("SET ROLE {}").format(role))
        assert connection.execute("SELECT id FROM docs_search('[1,0,0]', 1, 1)").fetchall() == [("1",)]
        with pytest.raises(psycopg.DataError, match=r"of generation 2, .* generation 1") as caught:
            connection.execute("SELECT id FROM docs_search('[1,0,0]', 1, 2)")
        # What collections there are, and of which models, is the registry's to say.
        with pytest.raises(psycopg.DataError) as guessed:
            connection.execute("SELECT embedq.check_generation(%s, -1, 1)", (docs.id,))
        for said in (str(caught.value), str(guessed.value)):
            assert "docs" not in said
            assert "small" not in said
    finally:
        connection.execute("RESET ROLE")
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))
