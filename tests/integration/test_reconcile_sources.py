"""Sources and collections of each kind, as `embedq reconcile` takes them."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from psycopg import sql

from embedq_worker.engine.work import content_hash
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.long_texts import LongTexts
from embedq_worker.store.own_table.table import OwnNames, find_own_table
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.reconcile.source import queried
from tests.support.filled import MODEL
from tests.support.reconciling import METADATA, NONE, OUTBOX, QUERY, found, put, reconcile, store
from tests.support.stack import wait_until


def test_both_sides_are_in_byte_order(products: Connection) -> None:
    """Whatever the database's locale; the tests' own has no other order to show it by."""
    source = queried(products, "SELECT sku AS id, name AS text FROM product")
    rows = sql.SQL(source.rows.as_string().rstrip("; \n"))
    put(products, a="text")
    asked = sql.SQL("SELECT pg_collation_for(id) FROM ({}) AS rows").format(rows)
    assert products.execute(asked).fetchall() == [('"C"',)]


WRONG = {
    "SELECT sku, name FROM product": "must give the columns id and text",
    "SELECT sku AS id, name AS text FROM no_such": 'relation "no_such" does not exist',
    "SELECT sku AS id, name::int::text AS text FROM product": "SQLSTATE 22P02",
    "SELECT sku AS id, name AS text FROM product WHERE false": "no text at all",
    "SELECT 'x' AS id, name AS text FROM product": "'x' twice",
    "SELECT null AS id, name AS text FROM product": "without an id",
    "SELECT nextval('s')::text AS id, name AS text FROM product": "read-only",
}


def test_sources_that_cannot_be_right(
    command_line: CliRunner, products: Connection, plain_docs: Collection
) -> None:
    """Are errors in one line that quotes no text, and nothing is done; least of all deleted."""
    put(products, a="secret", b="secret")
    store(products, plain_docs, "c", "text")
    products.execute("CREATE SEQUENCE s")
    for query, reason in WRONG.items():
        result = reconcile(command_line, "--yes", source=("--query", query), code=1)
        assert reason in result.stderr
        assert "secret" not in result.output
        assert result.stderr.count("\n") == 1
    assert products.execute(OUTBOX).fetchall() == []


def test_a_file_is_a_source(
    command_line: CliRunner, products: Connection, plain_docs: Collection, tmp_path: Path
) -> None:
    """In any order; the last line of an id counts, and a bad line would be taken for an orphan."""
    for item_id in "abc":
        store(products, plain_docs, item_id, item_id)
    lines = [
        {"id": "b", "text": "older"},
        {"id": "b", "text": "b", "metadata": {"lang": "en"}},
        {"id": "a", "text": "new", "metadata": {"x": 1}},
    ]
    file = tmp_path / "docs.jsonl"
    file.write_text("\n".join(map(json.dumps, [*lines, {"id": "c", "deleted": True}])))
    source = ("--file", str(file))
    counted = {"wanted": 2, "current": 1, "stale": 1, "orphaned": 1, "enqueued": 2}
    assert found(reconcile(command_line, "--yes", "--json", source=source)) == NONE | counted
    rows = products.execute(OUTBOX).fetchall()
    assert [row[:4] for row in rows] == [("a", 6, "new", {"x": 1}), ("c", 6, None, None)]

    file.write_text('{"id": "b", "text": "b"}\n')  # of metadata it says nothing
    counted = {"wanted": 1, "current": 1, "on_its_way": 2, "enqueued": 0}
    assert found(reconcile(command_line, "--yes", "--json", source=source)) == NONE | counted

    bad = [{"id": "a", "text": 1}, {"id": "a", "text": "\0"}, {"id": "b", "text": " "}]
    file.write_text("\n".join(map(json.dumps, bad)))  # the last one is blank: it counts as not there
    assert "2 bad lines" in reconcile(command_line, "--yes", source=source, code=1).stderr


def test_the_table_that_it_follows_is_the_source(
    command_line: CliRunner, products: Connection, plain_docs: Collection
) -> None:
    """Once the backfill has read it; names in its expressions are Postgres' own, as they are to triggers."""
    assert "follows no table" in reconcile(command_line, "--yes", source=(), code=1).stderr
    products.execute("ALTER TABLE product ALTER sku SET NOT NULL, ADD UNIQUE (sku)")
    products.execute("SELECT embedq.watch('product', 'sku', 'upper(name)', 'docs', 'about')")
    assert "still reading" in reconcile(command_line, "--yes", source=(), code=1).stderr
    products.execute("SELECT embedq.docs_fill(10)")

    products.execute("ALTER TABLE product DISABLE TRIGGER USER")
    put(products, a="missing", b="stored")
    store(products, plain_docs, "b", "STORED")
    products.execute("CREATE FUNCTION upper(text) RETURNS text LANGUAGE sql RETURN 'of somebody else'")
    name = products.info.dbname
    products.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    counted = {"wanted": 2, "current": 1, "missing": 1, "enqueued": 1}
    assert found(reconcile(command_line, "--yes", "--json", source=())) == NONE | counted
    assert [row[:4] for row in products.execute(OUTBOX)] == [("a", 1, "MISSING", {"lang": "en"})]


def test_a_watch_that_was_behind_follows_again(
    command_line: CliRunner, products: Connection, plain_docs: Collection, database_url: str
) -> None:
    """If all was seen: not of what was missed just now, nor beside a change that is still under way."""
    products.execute("ALTER TABLE product ALTER sku SET NOT NULL, ADD UNIQUE (sku)")
    products.execute("SELECT embedq.watch('product', 'sku', 'name', 'docs')")
    products.execute("SELECT embedq.docs_fill(10)")
    put(products, a="text")
    state = "SELECT state FROM embedq.watch_status"
    miss = (
        "INSERT INTO embedq.missed_change VALUES (%s, '22012', clock_timestamp() - %s * interval '1 second')"
    )

    products.execute(miss, (plain_docs.id, 100))
    reconcile(command_line, "--yes", source=())  # what is on its way may be of before
    assert products.execute(state).fetchone() == ("behind",)
    products.execute("DELETE FROM embedq.outbox")
    reconcile(command_line, "--dry-run", source=(), code=1)
    assert products.execute(state).fetchone() == ("behind",)
    with connect(database_url) as other, other.transaction():
        other.execute("SELECT pg_current_xact_id()")
        reconcile(command_line, "--yes", source=())
    assert products.execute(state).fetchone() == ("behind",)
    products.execute("DELETE FROM embedq.outbox")
    products.execute(miss, (plain_docs.id, 30))
    reconcile(command_line, "--yes", source=())
    assert products.execute("SELECT count(*) FROM embedq.missed_change").fetchone() == (2,)
    products.execute("UPDATE embedq.missed_change SET missed_at = missed_at - interval '1 minute'")

    def follows() -> bool:  # not at once, while others write in another database
        products.execute("DELETE FROM embedq.outbox")
        said = reconcile(command_line, "--yes", source=()).stderr
        is_following = products.execute(state).fetchone() == ("following",)
        assert is_following == ("made up for" in said)
        return is_following

    wait_until(follows, 20)


def test_texts_that_became_several_rows(command_line: CliRunner, products: Connection) -> None:
    """Their digest is that of the whole text, and all rows must be there."""
    chunked = create_collection(
        products, name="docs", model=MODEL, long_texts=LongTexts("chunk", chunk_tokens=64)
    )
    put(products, a="one two", b="one two")
    for item_id in "ab":
        store(products, chunked, item_id, "one two")
        products.execute("UPDATE embedq.item SET chunks = 2")
        if item_id == "a":
            products.execute("INSERT INTO docs VALUES ('a', 1, 'two', %s, '[1,2,3]', 5)", (METADATA,))
    assert found(reconcile(command_line, "--yes", "--json")) == NONE | {
        "wanted": 2,
        "current": 1,
        "missing": 1,
        "enqueued": 1,
    }


def test_somebodys_own_table(command_line: CliRunner, products: Connection) -> None:
    """Its rows are no vectors by themselves: what counts is the ledger, and that the vector is there."""
    products.execute("CREATE TABLE item (id int PRIMARY KEY, body text, embedding vector(3))")
    products.execute("INSERT INTO item SELECT n, 'text ' || n, '[1,2,3]' FROM generate_series(1, 12) AS n")
    own = find_own_table(products, OwnNames(schema="public", table="item", content="body"))
    docs = create_collection(products, name="docs", model=MODEL, own=own, keep_vectors=True)
    for number in range(1, 12):
        products.execute(
            "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks)"
            " VALUES (%s, %s, 5, %s, 1)",
            (docs.id, str(number), content_hash(f"text {number}")),
        )
    products.execute("UPDATE item SET embedding = NULL WHERE id = 10")
    products.execute("DELETE FROM item WHERE id = 2")
    result = reconcile(
        command_line, "--yes", "--json", source=("--query", "SELECT id, body AS text FROM item;")
    )
    counted = {"wanted": 11, "current": 9, "missing": 2, "orphaned": 1, "enqueued": 3}
    assert found(result) == NONE | counted
    rows = products.execute(OUTBOX).fetchall()
    assert [row[:3] for row in rows] == [("10", 6, "text 10"), ("12", 1, "text 12"), ("2", 6, None)]


def test_given_versions(command_line: CliRunner, products: Connection) -> None:
    """Are the source's; one that is not above what is stored cannot mend it."""
    docs = create_collection(products, name="docs", model=MODEL, versions="given")
    put(products, a="new", b="new", c="new", d="new", e="new")
    for item_id in "ab":
        store(products, docs, item_id, "old")
    for item_id, version in {"d": 6, "e": 5}.items():
        store(products, docs, item_id, "new", version, metadata="{}")
    query = QUERY[1].replace("FROM", ", CASE sku WHEN 'a' THEN 4 ELSE 6 END AS version FROM")
    counted = {"wanted": 5, "missing": 1, "stale": 1, "other_metadata": 1, "ahead": 2}
    counted |= {"enqueued": 3, "current": 0}
    assert found(reconcile(command_line, "--yes", "--json", source=("--query", query))) == NONE | counted
    assert [row[:3] for row in products.execute(OUTBOX)] == [
        ("b", 6, "new"),
        ("c", 6, "new"),
        ("e", 6, "new"),
    ]
    assert "no version" in reconcile(command_line, "--yes", code=1).stderr
