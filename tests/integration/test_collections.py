"""Collections: made whole or not at all, listed, dropped."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from embedq.errors import UnknownCollection
from embedq_sql import statement
from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.errors import (
    BadChunks,
    BadDimensions,
    CollectionBusy,
    CollectionConflict,
    StoreError,
    VectorTooLong,
)
from embedq_worker.store import collections as stored
from embedq_worker.store import row_counts
from embedq_worker.store.collections import (
    create_collection,
    drop_collection,
    get_collection,
    list_collections,
)
from embedq_worker.store.dead_letters.listing import count_dead_letters
from embedq_worker.store.long_texts import LongTexts
from embedq_worker.store.moving.successor import start
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.row_counts import count_rows

MODEL = Model(id="small", dimensions=8, allowed_dimensions=DimensionRange(min=1, max=5000))


def relations(connection: Connection) -> set[str]:
    """What there is in schema public, pgvector's own left out."""
    rows = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    return {str(name) for (name,) in rows}


def test_table_has_the_columns_that_people_query(connection: Connection) -> None:
    """A new collection has a typed vector, a key on id and chunk, and an index on metadata alone."""
    create_collection(connection, name="docs", model=MODEL)

    columns = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = 'docs'::regclass AND attnum > 0 ORDER BY attnum"
    ).fetchall()
    assert columns == [
        ("id", "text", True),
        ("chunk", "integer", True),
        ("content", "text", True),
        ("metadata", "jsonb", True),
        ("embedding", "vector(8)", True),
        ("version", "bigint", True),
        ("updated_at", "timestamp with time zone", True),
    ]
    assert relations(connection) == {"docs", "docs_pkey", "docs_metadata_idx"}


def test_ids_are_in_byte_order(connection: Connection) -> None:
    """Ids sort by bytes, as the writers lock."""
    create_collection(connection, name="docs", model=MODEL)
    for item in ("b", "B", "é", "a", "Z"):
        connection.execute(
            "INSERT INTO docs (id, content, embedding, version) VALUES (%s, '', '[1,1,1,1,1,1,1,1]', 1)",
            (item,),
        )

    ids = [item for (item,) in connection.execute("SELECT id FROM docs ORDER BY id")]

    assert ids == sorted(ids, key=str.encode)
    assert ids == ["B", "Z", "a", "b", "é"]


def test_creating_again_changes_nothing(connection: Connection) -> None:
    """The same settings give the same collection, with its rows."""
    first = create_collection(connection, name="docs", model=MODEL, dimensions=8)
    connection.execute(
        "INSERT INTO docs (id, content, embedding, version) VALUES ('1', '', '[1,1,1,1,1,1,1,1]', 1)"
    )

    assert create_collection(connection, name="docs", model=MODEL) == first
    assert list_collections(connection) == [first]
    assert count_rows(connection, first) == 1


def test_creating_again_while_it_moves_changes_nothing(connection: Connection) -> None:
    """Its settings are those of its model until the switch: who deploys need not know of the move."""
    create_collection(connection, name="docs", model=MODEL)
    moving = start(connection, "docs", Model(id="other", dimensions=8))

    assert create_collection(connection, name="docs", model=MODEL) == moving


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dimensions": 16}, "dimensions 8, not 16"),
        ({"vector_type": "halfvec"}, "vector_type 'vector', not 'halfvec'"),
        ({"versions": "given"}, "versions 'clock', not 'given'"),
        (
            {"model": Model(id="other", dimensions=8)},
            "model 'small', not 'other'; `embedq collection migrate docs` changes the model, or choose",
        ),
        (
            {"quantization": "halfvec"},
            "quantization 'none', not 'halfvec'; `embedq index rebuild docs` changes the quantization, or",
        ),
        (
            {"long_texts": LongTexts("chunk", 100)},
            "on_too_long 'error', not 'chunk'; chunk_tokens None, not 100",
        ),
    ],
)
def test_other_settings_are_refused(connection: Connection, changed: dict[str, object], said: str) -> None:
    """A collection that exists with other settings stays what it is, and the message names the difference."""
    first = create_collection(connection, name="docs", model=MODEL)

    with pytest.raises(CollectionConflict, match=said):
        create_collection(connection, **{"name": "docs", "model": MODEL, **changed})  # type: ignore[arg-type] # parametrised

    assert list_collections(connection) == [first]


def test_long_texts_are_registered(connection: Connection) -> None:
    """With the defaults that the model gives, so that repeating the command changes nothing."""
    made = create_collection(connection, name="docs", model=MODEL, long_texts=LongTexts("chunk"))

    assert (made.on_too_long, made.chunk_tokens, made.chunk_overlap) == ("chunk", 8192, 819)
    assert create_collection(connection, name="docs", model=MODEL, long_texts=LongTexts("chunk")) == made
    assert get_collection(connection, "docs") == made
    with pytest.raises(BadChunks, match="8192 at most"):
        create_collection(connection, name="more", model=MODEL, long_texts=LongTexts("chunk", 9000))


@pytest.mark.parametrize("taken", ["docs", "docs_pkey", "docs_metadata_idx"])
def test_table_that_is_not_ours_is_refused(connection: Connection, taken: str) -> None:
    """A name that is taken in the schema is a clear error, and nothing of the collection is left."""
    connection.execute(sql.SQL("CREATE TABLE {} (embedding vector(3))").format(sql.Identifier(taken)))

    with pytest.raises(CollectionConflict, match="choose another name"):
        create_collection(connection, name="docs", model=MODEL)

    assert relations(connection) == {taken}
    assert list_collections(connection) == []


def test_search_function_that_is_not_ours_is_refused(connection: Connection) -> None:
    """A function of that name and those arguments is never replaced."""
    connection.execute("CREATE FUNCTION docs_search(vector, integer) RETURNS int RETURN 1")

    with pytest.raises(CollectionConflict, match="taken"):
        create_collection(connection, name="docs", model=MODEL)

    assert relations(connection) == set()


def test_missing_schema_is_refused(connection: Connection) -> None:
    """The message says what to create."""
    with pytest.raises(CollectionConflict, match="no schema 'attic'"):
        create_collection(connection, name="docs", model=MODEL, schema="attic")
    with pytest.raises(CollectionConflict, match="%"):
        create_collection(connection, name="docs", model=MODEL, schema="100%s")


@pytest.mark.parametrize("schema", ["Shop Floor", 'qu"ote', "line\nbreak", "brace{x}"])
def test_any_schema_name_is_an_identifier(connection: Connection, schema: str) -> None:
    """Names of schemas are quoted, whatever they hold, from creation to drop."""
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    made = create_collection(connection, name="select", model=MODEL, schema=schema)

    assert count_rows(connection, made) == 0
    assert connection.execute("SELECT * FROM embedq.search('select', '[1,1,1,1,1,1,1,1]')").fetchall() == []
    assert drop_collection(connection, "select") == made


@pytest.mark.parametrize("name", ["Docs", "1docs", "do cs", "docs;", "", "d" * 49, "docs\n"])
def test_bad_names_are_refused(connection: Connection, name: str) -> None:
    """What the contract does not take as a name makes no table."""
    with pytest.raises(CollectionConflict, match="names match"):
        create_collection(connection, name=name, model=MODEL)


def test_longest_name_keeps_its_objects_apart(connection: Connection) -> None:
    """With 48 characters no derived name is cut by Postgres."""
    made = create_collection(connection, name="d" * 48, model=MODEL)

    assert relations(connection) == {made.name, f"{made.name}_pkey", f"{made.name}_metadata_idx"}
    assert len(made.index_name) <= 63


def test_dimensions_that_the_model_does_not_make_are_refused(connection: Connection) -> None:
    """The model is asked before the database."""
    with pytest.raises(BadDimensions):
        create_collection(connection, name="docs", model=Model(id="fixed", dimensions=8), dimensions=9)


def test_halfvec_collection_stores_its_dimensions(connection: Connection) -> None:
    """3,072 dimensions become a halfvec column and take a vector of that size."""
    made = create_collection(connection, name="large", model=MODEL, dimensions=3072)
    connection.execute(
        "INSERT INTO large (id, content, embedding, version)"
        " VALUES ('1', '', array_fill(1, ARRAY[3072])::halfvec, 1)"
    )

    assert made.vector_type == "halfvec"
    assert count_rows(connection, made) == 1


def test_drop_removes_everything_but_dead_letters(connection: Connection) -> None:
    """Table, function, ledger and entry go, what died stays, and the name is given a new id."""
    first = create_collection(connection, name="docs", model=MODEL)
    other = create_collection(connection, name="other", model=MODEL)
    for each in (first, other):
        connection.execute(
            "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks)"
            " VALUES (%s, 'a', 1, '', 1)",
            (each.id,),
        )
    connection.execute(
        "INSERT INTO embedq.dead_letter (collection, class, code, attempts) VALUES ('docs', 'text', 'x', 1)"
    )

    assert drop_collection(connection, "docs") == first

    assert list_collections(connection) == [other]
    assert connection.execute("SELECT collection_id FROM embedq.item").fetchall() == [(other.id,)]
    assert connection.execute("SELECT to_regproc('docs_search')").fetchone() == (None,)
    assert "docs" not in relations(connection)
    assert count_dead_letters(connection) == {"docs": 1}
    assert create_collection(connection, name="docs", model=MODEL).id > other.id


def test_drop_of_an_unknown_collection_names_the_known(connection: Connection) -> None:
    """The message has the names that exist."""
    create_collection(connection, name="docs", model=MODEL)

    with pytest.raises(UnknownCollection, match="registered: docs"):
        drop_collection(connection, "dogs")


def test_drop_with_a_view_on_the_table_is_refused(connection: Connection) -> None:
    """What somebody built on the table is not dropped with it."""
    made = create_collection(connection, name="docs", model=MODEL)
    connection.execute("CREATE VIEW latest AS SELECT id FROM docs")

    with pytest.raises(CollectionConflict, match="drop them first"):
        drop_collection(connection, "docs")

    assert get_collection(connection, "docs") == made


def test_drop_gives_up_on_a_table_in_use(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long transaction on the table does not make the drop hang."""
    made = create_collection(connection, name="docs", model=MODEL)
    quick = {"limit_lock_wait": "SET LOCAL lock_timeout = '50ms'"}
    monkeypatch.setattr(stored, "statement", lambda name: quick.get(name) or statement(name))

    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT * FROM docs")
        with pytest.raises(CollectionBusy, match="in use"):
            drop_collection(connection, "docs")

    assert get_collection(connection, "docs") == made


def test_table_dropped_by_hand_is_noticed(connection: Connection) -> None:
    """A registered collection without its table is an error that says how to repair it, and that works."""
    made = create_collection(connection, name="docs", model=MODEL)
    connection.execute("DROP TABLE docs CASCADE")

    assert count_rows(connection, made) is None
    with pytest.raises(CollectionConflict, match="collection drop docs"):
        create_collection(connection, name="docs", model=MODEL)
    drop_collection(connection, "docs")
    create_collection(connection, name="docs", model=MODEL)


def test_many_rows_are_estimated(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit no table is read to its end."""
    made = create_collection(connection, name="docs", model=MODEL)
    connection.execute(
        "INSERT INTO docs (id, content, embedding, version)"
        " SELECT i::text, '', '[1,1,1,1,1,1,1,1]', 1 FROM generate_series(1, 50) AS i"
    )
    monkeypatch.setattr(row_counts, "COUNTED_ROWS", 20)

    assert (count_rows(connection, made) or 0) >= 21


def test_same_death_is_kept_once(connection: Connection) -> None:
    """An item that dies again of the same cause does not add a row; raw messages never replace each other."""
    died = (
        "INSERT INTO embedq.dead_letter (collection, item_id, version, class, code, attempts)"
        " VALUES ('d', %s, %s, 'c', 'x', 1)"
    )
    connection.execute(died, ("a", 1))
    connection.execute(died, ("a", 2))
    connection.execute(died, (None, None))
    connection.execute(died, (None, None))

    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(died, ("a", 1))


def test_errors_are_of_one_tree() -> None:
    """Whatever the store raises is a StoreError."""
    assert all(issubclass(each, StoreError) for each in (CollectionBusy, CollectionConflict, VectorTooLong))


def test_text_search_is_looked_up(connection: Connection) -> None:
    """It is kept as it is understood from any search path; one that is not there is refused."""
    connection.execute("CREATE TEXT SEARCH CONFIGURATION german_names (COPY = simple)")

    made = create_collection(connection, name="names", model=MODEL, text_search="german_names")

    assert made.text_search == "public.german_names"
    assert (
        create_collection(connection, name="docs", model=MODEL, text_search="english").text_search
        == "english"
    )
    for name in ("klingon", "no.such", "a b"):
        with pytest.raises(CollectionConflict, match="no text search configuration"):
            create_collection(connection, name="other", model=MODEL, text_search=name)
