"""What stands in the way of a collection's move to another model, and what is said then."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest

from embedq_worker.errors import BadDimensions, CollectionBusy, CollectionConflict, RowsUnfilled
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import get_collection
from embedq_worker.store.moving import snapshots, successor
from embedq_worker.store.moving.successor import end, moving, start, swap
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.two_models import NEW, OLD, fill, nearest, two_rows


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """A collection of two rows, which the two models put in opposite order."""
    return two_rows(connection)


def test_rows_without_a_vector_stop_the_switch(connection: Connection, docs: Collection) -> None:
    """One is enough; nothing is changed. The same the other way round."""
    moving_ = start(connection, docs.name, NEW)
    fill(connection, moving_)
    connection.execute("UPDATE docs SET embedding_g2 = NULL WHERE id = '2'")
    with pytest.raises(RowsUnfilled, match="rows have no vector of new yet"):
        swap(connection, "docs", "next")
    assert get_collection(connection, "docs") == moving_

    fill(connection, moving_)
    swap(connection, "docs", "next")
    connection.execute("UPDATE docs SET embedding_g1 = NULL WHERE id = '2'")
    with pytest.raises(RowsUnfilled, match="rows have no vector of old yet"):
        swap(connection, "docs", "previous")


def test_moves_that_cannot_be_are_refused(connection: Connection, docs: Collection) -> None:
    """Each with what to do."""
    with pytest.raises(CollectionConflict, match="already"):
        start(connection, "docs", OLD)
    with pytest.raises(BadDimensions):
        start(connection, "docs", OLD, 4)
    with pytest.raises(CollectionConflict, match="it has one model"):
        swap(connection, "docs", "next")
    with pytest.raises(CollectionConflict, match="it has one model"):
        end(connection, "docs", "previous")
    connection.execute("UPDATE docs SET content = repeat('long', 30) WHERE id = '1'")
    with pytest.raises(CollectionConflict, match="its longest text has 120 characters, the model takes 100"):
        start(connection, "docs", NEW)
    connection.execute("UPDATE embedq.collection SET chunk_tokens = 9000, on_too_long = 'chunk'")
    with pytest.raises(CollectionConflict, match="chunks have up to 9,000 tokens, the model takes 8,192"):
        start(connection, "docs", NEW)
    connection.execute("UPDATE embedq.collection SET is_managed = false")
    with pytest.raises(CollectionConflict, match="create a second collection"):
        start(connection, "docs", NEW)
    assert get_collection(connection, "docs").shadow is None
    assert docs.shadow is None


def test_views_on_the_vectors_stop_the_switch(connection: Connection, docs: Collection) -> None:
    """They follow the column, not its name, and would answer from the old model for ever."""
    fill(connection, start(connection, docs.name, NEW))
    connection.execute("CREATE VIEW mine AS SELECT id, embedding FROM docs")
    connection.execute(
        "CREATE FUNCTION own() RETURNS bigint BEGIN ATOMIC SELECT count(embedding) FROM docs; END"
    )
    with pytest.raises(CollectionConflict, match=r"mine, own\(\) would go on reading the old vectors"):
        swap(connection, "docs", "next")
    connection.execute("DROP VIEW mine; DROP FUNCTION own")
    connection.execute("CREATE VIEW fine AS SELECT id FROM docs_search('[1,0,0]', 1)")
    swap(connection, "docs", "next")


def test_busy_table_is_left_alone(
    connection: Connection, docs: Collection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long transaction on it is waited for in short tries, between which others go on; then it is told."""
    fill(connection, start(connection, docs.name, NEW))
    monkeypatch.setattr(successor, "_TRIES", 2)
    monkeypatch.setattr(successor, "_PAUSE", 0.01)
    with connect(database_url) as other:
        with other.transaction():
            other.execute("SELECT FROM docs LIMIT 1")
            with pytest.raises(CollectionBusy, match="in use at each of 2 tries"):
                swap(connection, "docs", "next")
        assert get_collection(connection, "docs").generation == 1
        with (
            moving(other, docs),
            pytest.raises(CollectionBusy, match="another session"),
            moving(connection, docs),
        ):
            pass
    assert swap(connection, "docs", "next").generation == 2


def test_an_interrupted_move_is_let_go(connection: Connection, docs: Collection, database_url: str) -> None:
    """Ctrl-C that meets the driver's own code leaves its statement running, and no other is taken then."""
    with pytest.raises(KeyboardInterrupt), moving(connection, docs):
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
        raise KeyboardInterrupt
    with connect(database_url) as other, moving(other, docs):
        pass


def test_whatever_reads_the_column_stops_the_switch(connection: Connection, docs: Collection) -> None:
    """Each would go on with the old vectors; an index only speeds up what nobody asks any more."""
    fill(connection, start(connection, docs.name, NEW))
    connection.execute("CREATE INDEX mine ON docs USING hnsw (embedding vector_l2_ops)")
    built: list[tuple[LiteralString, str, LiteralString]] = [
        (
            "ALTER TABLE docs ADD COLUMN norm float8 GENERATED ALWAYS AS (vector_norm(embedding)) STORED",
            "norm",
            "ALTER TABLE docs DROP COLUMN norm",
        ),
        (
            "ALTER TABLE docs ADD CONSTRAINT sane CHECK (vector_norm(embedding) < 2)",
            "sane",
            "ALTER TABLE docs DROP CONSTRAINT sane",
        ),
        ("CREATE POLICY theirs ON docs USING (embedding IS NULL)", "theirs", "DROP POLICY theirs ON docs"),
        (
            (
                "CREATE TRIGGER told BEFORE UPDATE OF embedding ON docs FOR EACH ROW"
                " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            ),
            "told",
            "DROP TRIGGER told ON docs",
        ),
    ]
    for make, name, drop in built:
        connection.execute(make)
        with pytest.raises(CollectionConflict, match=rf"{name}.* would go on reading the old vectors"):
            swap(connection, "docs", "next")
        connection.execute(drop)
    swap(connection, "docs", "next")


def test_older_snapshot_is_waited_for(
    connection: Connection, docs: Collection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads by it would find rows without vectors; the session is named. One that began later is none."""
    monkeypatch.setattr(snapshots, "PATIENCE", 0.2)
    moving_ = start(connection, docs.name, NEW)
    with connect(database_url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with reader.transaction():
            reader.execute("SELECT FROM embedq.collection")
            fill(connection, moving_)
            with pytest.raises(CollectionBusy, match=rf"session {reader.info.backend_pid} of "):
                swap(connection, "docs", "next")
        assert get_collection(connection, "docs") == moving_
        with reader.transaction():
            reader.execute("SELECT FROM embedq.collection")
            swap(connection, "docs", "next")
            assert nearest(reader, "[1,0]", 2) == "2"


def test_longest_text_is_measured_as_the_model_counts(connection: Connection, docs: Collection) -> None:
    """In UTF-16 units: an emoji is two, any other letter one."""
    named = {"text": "\U0001f600" * 40 + "\xe4" * 21}
    connection.execute("UPDATE docs SET content = %(text)s WHERE id = '1'", named)
    with pytest.raises(CollectionConflict, match="its longest text has 101 characters"):
        start(connection, docs.name, NEW)
    connection.execute("UPDATE docs SET content = substr(content, 2) WHERE id = '1'")
    start(connection, docs.name, NEW)
