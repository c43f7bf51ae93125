"""A collection's move to another model in the database."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from embedq_sql import template
from embedq_worker.catalogue import Model
from embedq_worker.errors import CollectionBusy, CollectionConflict
from embedq_worker.store.collection import Collection, Quantization
from embedq_worker.store.collections import create_collection, drop_collection, get_collection
from embedq_worker.store.functions import searched_by
from embedq_worker.store.indexes.advice import advice_on
from embedq_worker.store.indexes.building import build_index
from embedq_worker.store.indexes.rebuild import Changes, rebuild_index
from embedq_worker.store.indexes.status import index_report
from embedq_worker.store.indexes.steps import index_lock
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.moving import successor
from embedq_worker.store.moving.successor import end, start, swap
from embedq_worker.store.moving.successor_unfilled import count_unfilled, index_unfilled
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.vector_index import vector_indexes
from tests.support.stack import wait_until
from tests.support.two_models import NEW, OLD, columns, fill, nearest, two_rows

IN_PLPGSQL = """
    CREATE FUNCTION in_plpgsql(query vector, k integer, generation integer)
    RETURNS TABLE (id text)
    LANGUAGE plpgsql STABLE
    AS $$
    BEGIN
        RETURN QUERY SELECT stored.id FROM docs AS stored
        WHERE embedq.check_generation(1, docs_generation(), in_plpgsql.generation)
        ORDER BY stored.embedding <=> query LIMIT k;
    END
    $$
"""
"""A function whose body names the column, as those do that need more than one statement."""


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """A collection of two rows, which the two models put in opposite order."""
    return two_rows(connection)


@pytest.mark.parametrize("quantization", ["halfvec", "binary"])
def test_quantised_collection_moves(connection: Connection, quantization: Quantization) -> None:
    """To another size, and of bits to another type: functions and index fit before, after, and undone."""
    docs = create_collection(connection, name="docs", model=OLD, quantization=quantization)
    connection.execute(
        "INSERT INTO docs (id, content, embedding, version)"
        " VALUES ('1', 'a', '[1,0,0]', 1), ('2', 'b', '[0,1,0]', 1)"
    )
    build_index(connection, docs)
    moving_ = start(connection, "docs", NEW, vector_type="halfvec" if quantization == "binary" else "vector")
    fill(connection, moving_)
    build_index(connection, moving_.as_shadow())
    connection.execute("SET enable_seqscan = off")

    for to, query in (("next", "[1,0]"), ("previous", "[1,0,0]"), ("next", "[1,0]")):
        switched = swap(connection, "docs", to)  # type: ignore[arg-type]  # the two states

        assert searched_by(connection, switched) == quantization
        found = connection.execute("EXPLAIN SELECT * FROM docs_search(%s, 1)", (query,)).fetchall()
        assert "Index Scan using docs_embedding_idx" in str(found)
        assert nearest(connection, query, switched.generation) == ("2" if to == "next" else "1")
        assert advice_on(switched, index_report(connection, switched)) == []


def test_indexes_are_worked_on(connection: Connection, docs: Collection, database_url: str) -> None:
    """No column changes its name under a rebuild: what it made would be taken for the other model's."""
    with connect(database_url) as other:
        with index_lock(other, docs), pytest.raises(CollectionBusy, match="works on the indexes"):
            start(connection, "docs", NEW)
        moving_ = start(connection, "docs", NEW)
        fill(connection, moving_)
        for step in (swap, end):
            with index_lock(other, docs), pytest.raises(CollectionBusy, match="works on the indexes"):
                step(connection, "docs", "next")

    swap(connection, "docs", "next")
    with pytest.raises(CollectionConflict, match="has other vectors"):
        build_index(connection, docs)


def test_quantization_stays_while_it_moves(connection: Connection, docs: Collection) -> None:
    """The other model's vectors may not fit, and their index would not: refused before anything is built."""
    start(connection, "docs", NEW, vector_type="halfvec")

    with pytest.raises(CollectionConflict, match="migrate docs --abandon"):
        rebuild_index(connection, docs, Changes(quantization="halfvec"))
    rebuild_index(connection, docs, Changes(quantization="none", m=8))

    assert [index.name for index in vector_indexes(connection, docs)] == ["docs_embedding_idx"]
    end(connection, "docs", "next")
    assert rebuild_index(connection, docs, Changes(quantization="halfvec")).quantization == "halfvec"


def test_switch_undo_switch_finish(connection: Connection, docs: Collection) -> None:
    """The columns, the registry and the functions change together; a vector of the other model is refused."""
    before = columns(connection)
    moving_ = start(connection, "docs", NEW)
    assert columns(connection) == {**before, "embedding_g2": ("vector(2)", False)}
    assert count_unfilled(connection, moving_) == 2
    fill(connection, moving_)
    assert nearest(connection, "[1,0,0]", 1) == "1"

    switched = swap(connection, "docs", "next")

    assert (switched.model, switched.dimensions, switched.layout) == ("new", 2, (2, 1))
    assert columns(connection) == {"embedding": ("vector(2)", False), "embedding_g1": ("vector(3)", False)}
    assert nearest(connection, "[1,0]", 2) == "2"
    with pytest.raises(psycopg.DataError, match="of generation 1, collection 'docs' holds generation 2"):
        nearest(connection, "[1,0,0]", 1)
    assert connection.execute("SELECT embedding <=> '[1,0]' FROM docs WHERE id = '2'").fetchone() == (0.0,)

    undone = swap(connection, "docs", "previous")
    assert (undone.model, undone.layout) == ("old", (1, 2))
    assert nearest(connection, "[1,0,0]", 1) == "1"

    swap(connection, "docs", "next")
    end(connection, "docs", "previous")

    ended = get_collection(connection, "docs")
    assert (ended.model, ended.shadow, ended.layout) == ("new", None, (2, None))
    assert columns(connection) == {"embedding": ("vector(2)", True)}
    assert nearest(connection, "[1,0]", 2) == "2"
    assert docs.index_name == ended.index_name


def test_abandoned_generation_is_not_given_again(connection: Connection, docs: Collection) -> None:
    """A vector of the abandoned model must never pass for one of the next; the collection is as before."""
    before = columns(connection)
    fill(connection, start(connection, "docs", NEW))
    swap(connection, "docs", "next")
    swap(connection, "docs", "previous")
    end(connection, "docs", "next")

    assert get_collection(connection, "docs") == docs
    assert columns(connection) == before
    again = start(connection, "docs", Model(id="third", dimensions=2))
    assert again.layout == (1, 3)


def test_type_may_change_and_the_functions_with_it(connection: Connection, docs: Collection) -> None:
    """The function of the old type is gone, or the name would have two meanings."""
    moving_ = start(connection, docs.name, NEW, vector_type="halfvec")
    fill(connection, moving_)
    swap(connection, "docs", "next")

    found = connection.execute("SELECT oid::regprocedure::text FROM pg_proc WHERE proname = 'docs_search'")
    assert found.fetchall() == [("docs_search(halfvec,integer,integer)",)]
    assert nearest(connection, "[1,0]", 2) == "2"
    assert columns(connection)["embedding"] == ("halfvec(2)", False)
    assert apply_migrations(connection) == []
    assert nearest(connection, "[1,0]", 2) == "2"


def test_indexes_move_with_their_columns(connection: Connection, docs: Collection) -> None:
    """The shadow's index is the collection's after the switch, under its name, and serves searches."""
    build_index(connection, docs)
    moving_ = start(connection, docs.name, NEW)
    fill(connection, moving_)
    assert build_index(connection, moving_.as_shadow())
    swap(connection, "docs", "next")

    switched = get_collection(connection, "docs")
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute("EXPLAIN SELECT id FROM docs_search('[1,0]', 1)").fetchall()
    assert "docs_embedding_idx" in str(plan)
    assert [each.name for each in vector_indexes(connection, switched)] == ["docs_embedding_idx"]
    assert count_unfilled(connection, switched) == 0
    unfilled = connection.execute("EXPLAIN SELECT FROM docs WHERE embedding_g1 IS NULL").fetchall()
    assert "docs_unfilled_idx" in str(unfilled)

    end(connection, "docs", "previous")
    left = connection.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'docs'::regclass ORDER BY 1"
    )
    assert left.fetchall() == [("docs_embedding_idx",), ("docs_metadata_idx",), ("docs_pkey",)]


def test_start_is_safe_to_repeat(connection: Connection, docs: Collection) -> None:
    """The same again is no error; another model, or a second move before the first is finished, is one."""
    first = start(connection, docs.name, NEW)
    assert start(connection, docs.name, NEW) == first
    with pytest.raises(CollectionConflict, match=r"it moves to new, vector\(2\); .* --abandon"):
        start(connection, docs.name, NEW, 4)
    fill(connection, first)
    swap(connection, "docs", "next")
    with pytest.raises(CollectionConflict, match=r"still keeps the vectors of old; .* --finish"):
        start(connection, docs.name, Model(id="third", dimensions=3))


def test_dropped_in_the_middle(connection: Connection, docs: Collection) -> None:
    """The registry forgets the move with the collection."""
    start(connection, docs.name, NEW)
    drop_collection(connection, "docs")
    assert connection.execute("SELECT count(*) FROM embedq.shadow").fetchone() == (0,)


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("function", ["docs_search", "in_plpgsql"])
def test_statement_that_waits_for_the_switch(
    connection: Connection,
    docs: Collection,
    database_url: str,
    prepared: bool,
    generation: int,
    function: LiteralString,
) -> None:
    """Begun before, run after: it answers by its own vector's model, or not at all.

    The registry as it sees it may be older than the column. Both models' vectors are of one size here, or
    pgvector would refuse them.
    """
    other = Model(id="new", dimensions=3)
    start(connection, docs.name, other)
    connection.execute("UPDATE docs SET embedding_g2 = '[0,1,0]' WHERE id = '1'")
    connection.execute("UPDATE docs SET embedding_g2 = '[1,0,0]' WHERE id = '2'")
    connection.execute(IN_PLPGSQL)
    answers: list[object] = []
    with connect(database_url) as reader:
        if prepared:
            for _ in range(8):
                nearest(reader, "[1,0,0]", 1, function)

        def read() -> None:
            try:
                answers.append(nearest(reader, "[1,0,0]", generation, function))
            except psycopg.DataError as error:
                answers.append(error)

        thread = threading.Thread(target=read)
        with connection.transaction():
            swap(connection, "docs", "next")
            thread.start()
            with connect(database_url) as watching:
                waits = sql.SQL(
                    "SELECT count(*) FROM pg_stat_activity WHERE pid = {} AND wait_event_type = 'Lock'"
                )
                query = waits.format(reader.info.backend_pid)
                wait_until(lambda: watching.execute(query).fetchone() == (1,), 10)
        thread.join()
    right = {1: "1", 2: "2"}[generation]
    assert answers[0] == right or isinstance(answers[0], psycopg.DataError), answers


def test_undo_after_an_interrupted_finish(
    connection: Connection, docs: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was about to prove is asked of no row any more: writers store rows without it again."""
    fill(connection, start(connection, docs.name, NEW))
    swap(connection, "docs", "next")
    execute = successor._execute

    def interrupted(connection: Connection, name: LiteralString, names: Mapping[str, sql.Composable]) -> None:
        if name == "require_checked":
            raise KeyboardInterrupt
        execute(connection, name, names)

    with monkeypatch.context() as patch:
        patch.setattr(successor, "_execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            end(connection, "docs", "previous")
    swap(connection, "docs", "previous")
    connection.execute("INSERT INTO docs (id, content, embedding, version) VALUES ('3', 'c', '[1,0,0]', 1)")
    end(connection, "docs", "next")


def test_interrupted_start_gets_its_indexes(
    connection: Connection, docs: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them nothing is switched; whoever goes on with the move makes them, and says so."""
    with monkeypatch.context() as patch:
        patch.setattr(successor, "index_unfilled", lambda *_: None)
        moving_ = start(connection, docs.name, NEW)
    fill(connection, moving_)
    with pytest.raises(CollectionConflict, match="the index of the rows to fill is missing"):
        swap(connection, "docs", "next")
    said: list[str] = []
    for _ in range(2):
        index_unfilled(connection, moving_, lambda: said.append("building"))
    assert said == ["building", "building"]
    swap(connection, "docs", "next")


def test_rights_on_the_column_are_on_the_new_one(connection: Connection, docs: Collection) -> None:
    """A role that may read two columns reads the new model's vectors by the same name, after undoing too."""
    connection.execute("CREATE ROLE narrow_reader")
    try:
        connection.execute("GRANT SELECT (id, embedding) ON docs TO narrow_reader WITH GRANT OPTION")
        connection.execute("GRANT SELECT (embedding) ON docs TO PUBLIC")
        fill(connection, start(connection, docs.name, NEW))
        for state in ("next", "previous"):
            swap(connection, "docs", state)
            with connection.transaction():
                connection.execute("SET LOCAL ROLE narrow_reader")
                assert len(connection.execute("SELECT id, embedding FROM docs").fetchall()) == 2
        may = "has_column_privilege('narrow_reader', 'docs', 'embedding', 'SELECT WITH GRANT OPTION')"
        assert connection.execute(sql.SQL("SELECT {}").format(sql.SQL(may))).fetchone() == (True,)
    finally:
        connection.execute("DROP OWNED BY narrow_reader")
        connection.execute("DROP ROLE narrow_reader")


def test_a_page_to_fill_reads_its_own_letters(connection: Connection, docs: Collection) -> None:
    """However many there are: they are looked for by the rows' ids."""
    moving_ = start(connection, docs.name, NEW)
    connection.execute(
        "INSERT INTO embedq.dead_letter (collection, item_id, version, class, code, attempts)"
        " SELECT 'docs', n, 1, 'successor', 'too_long', 1 FROM generate_series(2, 5000) AS n"
    )
    connection.execute("UPDATE docs SET updated_at = now() - interval '1 minute'")
    connection.execute("ANALYZE")
    assert moving_.shadow is not None
    page = sql.SQL(template("list_unfilled")).format(
        table=moving_.table, shadow=sql.Identifier(moving_.shadow.column_name)
    )
    asked = {"after": None, "limit": 256, "young": 3.0, "collection": "docs", "since": "2000-01-01"}
    assert connection.execute(page, asked).fetchall() == [("1", 1)]
    plan = connection.execute(sql.SQL("EXPLAIN ") + page, asked).fetchall()
    assert "Seq Scan on dead_letter" not in str(plan)
