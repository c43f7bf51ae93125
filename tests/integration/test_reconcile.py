"""`embedq reconcile` on real servers: what it finds of a collection, and what it puts into the outbox."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import sql

from embedq.cli import main
from embedq_worker.engine.work import content_hash
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.connections import Connection, connect
from embedq_worker.store.long_texts import LongTexts
from embedq_worker.store.own_table import OwnNames, find_own_table
from embedq_worker.store.reconcile.source import queried
from tests.support.filled import MODEL
from tests.support.stack import Stack, wait_until

QUERY = ("--query", "SELECT sku AS id, name AS text, about AS metadata FROM product")
OUTBOX = "SELECT id, version, text, metadata, is_bulk, source FROM embedq.outbox ORDER BY id, version"
NONE = {"missing": 0, "stale": 0, "orphaned": 0, "kept": 0, "on_its_way": 0, "dead": 0, "ahead": 0}


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """To a migrated database with an empty table of products."""
    with connect(database_url) as opened:
        opened.execute("CREATE TABLE product (sku text, name text, about jsonb)")
        yield opened


@pytest.fixture
def docs(connection: Connection) -> Collection:
    """A collection that embedq made."""
    return create_collection(connection, name="docs", model=MODEL)


@pytest.fixture
def run(database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line on these servers."""
    monkeypatch.setenv("EMBEDQ_DATABASE_URL", database_url)
    monkeypatch.setenv("EMBEDQ_BROKER_URL", broker_url)
    return CliRunner()


def reconcile(
    run: CliRunner,
    *arguments: str,
    source: tuple[str, ...] = QUERY,
    code: int = 0,
    answer: str | None = None,
) -> Result:
    """Run the command on ``docs`` and hold its exit code."""
    result = run.invoke(main, ["reconcile", "docs", *source, *arguments], input=answer)
    assert result.exit_code == code, result.output
    return result


def found(result: Result) -> dict[str, int]:
    """What it counted."""
    said = json.loads(result.stdout)
    return {name: said[name] for name in ("wanted", "current", *NONE, "enqueued")}


def put(connection: Connection, **products: str | None) -> None:
    """Rows of the source, in no order."""
    for sku, name in reversed(products.items()):
        connection.execute("INSERT INTO product VALUES (%s, %s, %s)", (sku, name, '{"lang": "en"}'))


def store(
    connection: Connection, collection: Collection, item_id: str, text: str | None, version: int = 5
) -> None:
    """What the writer would have stored."""
    deleted, chunks = text is None, 0 if text is None else 1
    connection.execute(
        "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks, deleted_at)"
        " VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)",
        (collection.id, item_id, version, content_hash(text), chunks, deleted),
    )
    if text is not None:
        add_row(connection, item_id, text)


def add_row(connection: Connection, item_id: str, text: str) -> None:
    """A row past the ledger."""
    connection.execute(
        "INSERT INTO docs (id, content, embedding, version) VALUES (%s, %s, '[1,2,3]', 5)", (item_id, text)
    )


def bury(connection: Connection, item_id: str, text: str, version: int) -> None:
    """A dead letter with its text."""
    connection.execute(
        "WITH buried AS (INSERT INTO embedq.dead_letter (collection, item_id, version, class, code, attempts)"
        " VALUES ('docs', %s, %s, 'text', 'too_long', 1) RETURNING number)"
        " INSERT INTO embedq.dead_letter_text SELECT number, %s FROM buried",
        (item_id, version, json.dumps({"id": item_id, "text": text, "version": version})),
    )


def differ(connection: Connection, docs: Collection) -> None:
    """One id of each kind; letters in the other order than a locale's."""
    put(connection, a="same", B="missing", c="stale", d="hollow", e="dead", f="on its way", g="  ", h=None)
    put(connection, i="came back", j="unknown")
    for item_id, text in {"a": "same", "c": "another", "d": "hollow", "g": "blank", "f": "before"}.items():
        store(connection, docs, item_id, text)
    store(connection, docs, "i", None, version=7)
    store(connection, docs, "k", None, version=8)
    store(connection, docs, "ö", "orphaned", version=9)
    connection.execute("DELETE FROM docs WHERE id = 'd'")
    add_row(connection, "j", "no ledger knows")
    add_row(connection, "l", "nobody knows")
    bury(connection, "e", "dead", 6)
    connection.execute("SELECT embedq.enqueue('docs', 'f', 'on its way')")


REPAIRS = [
    ("B", 1, "missing", {"lang": "en"}, True, "reconcile"),
    ("c", 6, "stale", {"lang": "en"}, True, "reconcile"),
    ("d", 6, "hollow", {"lang": "en"}, True, "reconcile"),
    ("g", 6, None, None, True, "reconcile"),
    ("i", 8, "came back", {"lang": "en"}, True, "reconcile"),
    ("j", 1, "unknown", {"lang": "en"}, True, "reconcile"),
    ("l", 1, None, None, True, "reconcile"),
    ("ö", 10, None, None, True, "reconcile"),
]


def test_every_difference_is_found_and_mended(
    run: CliRunner, connection: Connection, docs: Collection
) -> None:
    """First said, then done; then all of it is on its way, and nothing is done again."""
    differ(connection, docs)
    counted = NONE | {
        "wanted": 8,
        "current": 1,
        "missing": 3,
        "stale": 2,
        "orphaned": 3,
        "on_its_way": 1,
        "dead": 1,
    }
    assert found(reconcile(run, "--dry-run", "--json", code=1)) == counted | {"enqueued": 0}
    assert len(connection.execute(OUTBOX).fetchall()) == 1

    assert found(reconcile(run, "--yes", "--json")) == counted | {"enqueued": 8}
    repairs = [row for row in connection.execute(OUTBOX) if row[-1] == "reconcile"]
    assert repairs == REPAIRS
    # The ledger would have told whoever brings this text that nothing changed.
    hollow = "SELECT id FROM embedq.item WHERE content_hash = '' AND deleted_at IS NULL"
    assert connection.execute(hollow).fetchall() == [("d",)]

    again = found(reconcile(run, "--yes", "--json"))
    assert again == NONE | {"wanted": 8, "current": 1, "on_its_way": 9, "dead": 1, "enqueued": 0}


def test_repairs_become_vectors(stack: Stack) -> None:
    """By a real worker: also of rows that were deleted past it, and of an id that no ledger knows."""
    stack.create("docs")
    connection = psycopg.connect(stack.database_url, autocommit=True)
    with connection, stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": str(n), "text": f"text {n}"} for n in range(6)])
        stack.wait_until_done()
        connection.execute("UPDATE docs SET id = 'stray' WHERE id = '0'")
        connection.execute("DELETE FROM docs WHERE id = '1'")
        lines = [{"id": str(n), "text": f"text {n + (n == 2)}"} for n in range(5)]
        said = stack.command(
            "reconcile", "docs", "--file", "-", "--yes", stdin="\n".join(map(json.dumps, lines))
        )
        assert "5 ids enqueued" in said
        wait_until(lambda: not stack.sql("SELECT FROM embedq.outbox"), 20)
    assert stack.stored("docs") == {line["id"]: line["text"] for line in lines}


def test_a_person_is_told(run: CliRunner, connection: Connection, docs: Collection) -> None:
    """In words, with what to do about the rest."""
    differ(connection, docs)
    said = reconcile(run, "--keep-orphans", "--yes").stdout.splitlines()
    assert said == [
        "docs: of 8 ids in the source, 1 are stored as they are",
        "  3 missing",
        "  2 stale: stored with another text",
        "  3 not in the source, and kept",
        "  1 on their way, in the outbox",
        "  1 dead letters: see `embedq dead-letters list --collection docs`",
        "5 ids enqueued",
    ]
    assert all(row[2] is not None for row in connection.execute(OUTBOX))


def test_both_sides_are_in_byte_order(connection: Connection) -> None:
    """Whatever the database's locale; the tests' own has no other order to show it by."""
    source = queried(connection, "SELECT sku AS id, name AS text FROM product")
    rows = sql.SQL(source.rows.as_string().rstrip("; \n"))
    put(connection, a="text")
    asked = sql.SQL("SELECT pg_collation_for(id) FROM ({}) AS rows").format(rows)
    assert connection.execute(asked).fetchall() == [('"C"',)]


@pytest.mark.usefixtures("docs")
def test_a_person_is_asked(run: CliRunner, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is done; where nobody is there, that is said before everything is compared."""
    put(connection, a="text")
    assert "--yes" in reconcile(run, code=2).stderr
    assert "one source" in reconcile(run, "--yes", "--file", "-", code=2).stderr

    monkeypatch.setattr("embedq_worker.cli.reconcile._is_terminal", lambda: True)
    assert "Enqueue 1 id? [y/N]: n" in reconcile(run, code=1, answer="n\n").output
    assert connection.execute(OUTBOX).fetchall() == []
    assert "1 id enqueued" in reconcile(run, answer="y\n").output
    assert len(connection.execute(OUTBOX).fetchall()) == 1


WRONG = {
    "SELECT sku, name FROM product": "must give the columns id and text",
    "SELECT sku AS id, name AS text FROM no_such": 'relation "no_such" does not exist',
    "SELECT sku AS id, name::int::text AS text FROM product": "SQLSTATE 22P02",
    "SELECT sku AS id, name AS text FROM product WHERE false": "no text at all",
    "SELECT 'x' AS id, name AS text FROM product": "'x' twice",
    "SELECT null AS id, name AS text FROM product": "without an id",
    "SELECT nextval('s')::text AS id, name AS text FROM product": "read-only",
}


def test_sources_that_cannot_be_right(run: CliRunner, connection: Connection, docs: Collection) -> None:
    """Are errors in one line that quotes no text, and nothing is done; least of all deleted."""
    put(connection, a="secret", b="secret")
    store(connection, docs, "c", "text")
    connection.execute("CREATE SEQUENCE s")
    for query, reason in WRONG.items():
        result = reconcile(run, "--yes", source=("--query", query), code=1)
        assert reason in result.stderr
        assert "secret" not in result.output
        assert result.stderr.count("\n") == 1
    assert connection.execute(OUTBOX).fetchall() == []


def test_a_file_is_a_source(run: CliRunner, connection: Connection, docs: Collection, tmp_path: Path) -> None:
    """In any order; the last line of an id counts, and a bad line would be taken for an orphan."""
    for item_id in "abc":
        store(connection, docs, item_id, item_id)
    lines = [
        {"id": "b", "text": "older"},
        {"id": "b", "text": "b"},
        {"id": "a", "text": "new", "metadata": {"x": 1}},
    ]
    file = tmp_path / "docs.jsonl"
    file.write_text("\n".join(map(json.dumps, [*lines, {"id": "c", "deleted": True}])))
    source = ("--file", str(file))
    counted = {"wanted": 2, "current": 1, "stale": 1, "orphaned": 1, "enqueued": 2}
    assert found(reconcile(run, "--yes", "--json", source=source)) == NONE | counted
    rows = connection.execute(OUTBOX).fetchall()
    assert [row[:4] for row in rows] == [("a", 6, "new", {"x": 1}), ("c", 6, None, None)]

    file.write_text('{"id": "a", "text": 1}\n')
    assert "1 bad lines" in reconcile(run, "--yes", source=source, code=1).stderr


def test_the_table_that_it_follows_is_the_source(
    run: CliRunner, connection: Connection, docs: Collection
) -> None:
    """Once the backfill has read it; names in its expressions are Postgres' own, as they are to triggers."""
    assert "follows no table" in reconcile(run, "--yes", source=(), code=1).stderr
    connection.execute("ALTER TABLE product ALTER sku SET NOT NULL, ADD UNIQUE (sku)")
    connection.execute("SELECT embedq.watch('product', 'sku', 'upper(name)', 'docs', 'about')")
    assert "still reading" in reconcile(run, "--yes", source=(), code=1).stderr
    connection.execute("SELECT embedq.docs_fill(10)")

    connection.execute("ALTER TABLE product DISABLE TRIGGER USER")
    put(connection, a="missing", b="stored")
    store(connection, docs, "b", "STORED")
    connection.execute("CREATE FUNCTION upper(text) RETURNS text LANGUAGE sql RETURN 'of somebody else'")
    name = connection.info.dbname
    connection.execute(f'ALTER DATABASE "{name}" SET search_path = public, pg_catalog')
    counted = {"wanted": 2, "current": 1, "missing": 1, "enqueued": 1}
    assert found(reconcile(run, "--yes", "--json", source=())) == NONE | counted
    assert [row[:4] for row in connection.execute(OUTBOX)] == [("a", 1, "MISSING", {"lang": "en"})]


def test_a_watch_that_was_behind_follows_again(
    run: CliRunner, connection: Connection, docs: Collection, database_url: str
) -> None:
    """If all was seen: not of what was missed just now, nor beside a change that is still under way."""
    connection.execute("ALTER TABLE product ALTER sku SET NOT NULL, ADD UNIQUE (sku)")
    connection.execute("SELECT embedq.watch('product', 'sku', 'name', 'docs')")
    connection.execute("SELECT embedq.docs_fill(10)")
    put(connection, a="text")
    state = "SELECT state FROM embedq.watch_status"
    miss = (
        "INSERT INTO embedq.missed_change VALUES (%s, '22012', clock_timestamp() - %s * interval '1 second')"
    )

    connection.execute(miss, (docs.id, 100))
    reconcile(run, "--yes", source=())  # what is on its way may be of before
    assert connection.execute(state).fetchone() == ("behind",)
    connection.execute("DELETE FROM embedq.outbox")
    reconcile(run, "--dry-run", source=(), code=1)
    assert connection.execute(state).fetchone() == ("behind",)
    with connect(database_url) as other, other.transaction():
        other.execute("SELECT pg_current_xact_id()")
        reconcile(run, "--yes", source=())
    assert connection.execute(state).fetchone() == ("behind",)
    connection.execute("DELETE FROM embedq.outbox")
    connection.execute(miss, (docs.id, 30))
    reconcile(run, "--yes", source=())
    assert connection.execute("SELECT count(*) FROM embedq.missed_change").fetchone() == (2,)
    connection.execute("UPDATE embedq.missed_change SET missed_at = missed_at - interval '1 minute'")

    def follows() -> bool:  # not at once, while others write in another database
        connection.execute("DELETE FROM embedq.outbox")
        said = reconcile(run, "--yes", source=()).stderr
        is_following = connection.execute(state).fetchone() == ("following",)
        assert is_following == ("made up for" in said)
        return is_following

    wait_until(follows, 20)


def test_texts_that_became_several_rows(run: CliRunner, connection: Connection) -> None:
    """Their digest is that of the whole text, and all rows must be there."""
    chunked = create_collection(
        connection, name="docs", model=MODEL, long_texts=LongTexts("chunk", chunk_tokens=64)
    )
    put(connection, a="one two", b="one two")
    for item_id in "ab":
        store(connection, chunked, item_id, "one two")
        connection.execute("UPDATE embedq.item SET chunks = 2")
        if item_id == "a":
            connection.execute("INSERT INTO docs VALUES ('a', 1, 'two', '{}', '[1,2,3]', 5)")
    assert found(reconcile(run, "--yes", "--json")) == NONE | {
        "wanted": 2,
        "current": 1,
        "missing": 1,
        "enqueued": 1,
    }


def test_somebodys_own_table(run: CliRunner, connection: Connection) -> None:
    """Its rows are no vectors by themselves: what counts is the ledger, and that the vector is there."""
    connection.execute("CREATE TABLE item (id int PRIMARY KEY, body text, embedding vector(3))")
    connection.execute("INSERT INTO item SELECT n, 'text ' || n, '[1,2,3]' FROM generate_series(1, 12) AS n")
    own = find_own_table(connection, OwnNames(schema="public", table="item", content="body"))
    docs = create_collection(connection, name="docs", model=MODEL, own=own, keep_vectors=True)
    for number in range(1, 12):
        connection.execute(
            "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks)"
            " VALUES (%s, %s, 5, %s, 1)",
            (docs.id, str(number), content_hash(f"text {number}")),
        )
    connection.execute("UPDATE item SET embedding = NULL WHERE id = 10")
    connection.execute("DELETE FROM item WHERE id = 2")
    result = reconcile(run, "--yes", "--json", source=("--query", "SELECT id, body AS text FROM item;"))
    counted = {"wanted": 11, "current": 9, "missing": 2, "orphaned": 1, "enqueued": 3}
    assert found(result) == NONE | counted
    rows = connection.execute(OUTBOX).fetchall()
    assert [row[:3] for row in rows] == [("10", 6, "text 10"), ("12", 1, "text 12"), ("2", 6, None)]


def test_given_versions(run: CliRunner, connection: Connection) -> None:
    """Are the source's; a lower one than what is stored cannot mend it."""
    docs = create_collection(connection, name="docs", model=MODEL, versions="given")
    put(connection, a="new", b="new", c="new")
    for item_id in "ab":
        store(connection, docs, item_id, "old")
    query = "SELECT sku AS id, name AS text, CASE sku WHEN 'a' THEN 4 ELSE 6 END AS version FROM product"
    counted = {"wanted": 3, "missing": 1, "stale": 1, "ahead": 1, "enqueued": 2, "current": 0}
    assert found(reconcile(run, "--yes", "--json", source=("--query", query))) == NONE | counted
    assert [row[:3] for row in connection.execute(OUTBOX)] == [("b", 6, "new"), ("c", 6, "new")]
    assert "no version" in reconcile(run, "--yes", code=1).stderr


def test_one_reconciles_at_a_time(run: CliRunner, connection: Connection, docs: Collection) -> None:
    """Two could give one version to two texts."""
    put(connection, a="text")
    connection.execute("SELECT pg_advisory_lock(73061, %s)", (docs.id,))
    assert "by somebody else" in reconcile(run, "--yes", code=1).stderr


NEWEST = """
    SELECT product.sku FROM product JOIN (
        SELECT DISTINCT ON (id) id, text FROM embedq.outbox ORDER BY id, version DESC
    ) AS newest ON newest.id = product.sku AND newest.text IS DISTINCT FROM product.name
"""


@pytest.mark.usefixtures("docs")
def test_what_changes_meanwhile_wins(run: CliRunner, connection: Connection, database_url: str) -> None:
    """Of what is on its way to an id, the highest version is always the source's text."""
    connection.execute("INSERT INTO product SELECT n, 'text ' || n FROM generate_series(1, 3000) AS n")
    ended = threading.Event()

    def change() -> None:
        with psycopg.connect(database_url, autocommit=True) as other:
            for number in range(10**6):
                if ended.is_set():
                    return
                other.execute(
                    "WITH changed AS (UPDATE product SET name = name || '.' WHERE sku = %s RETURNING *)"
                    " SELECT embedq.enqueue('docs', sku, name) FROM changed",
                    (str(number * 7 % 3000 + 1),),
                )

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(3):
            reconcile(run, "--yes")
    finally:
        ended.set()
        changer.join()
    both = "SELECT id FROM embedq.outbox GROUP BY id HAVING count(DISTINCT coalesce(source, '')) = 2"
    assert connection.execute(both).fetchall()  # else nothing was shown
    assert connection.execute(NEWEST).fetchall() == []
