"""`embedq reconcile` on real servers: what it finds of a collection, and what it puts into the outbox."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from embedq_worker.engine.work import content_hash
from embedq_worker.store.collection import Collection
from embedq_worker.store.postgres.connections import Connection
from tests.support.reconciling import NONE, OUTBOX, add_row, bury, found, put, reconcile, store
from tests.support.stack import Stack, wait_until


def differ(products: Connection, docs: Collection) -> None:
    """One id of each kind; letters in the other order than a locale's."""
    put(products, a="same", B="missing", c="stale", d="hollow", e="dead", f="on its way", g="  ", h=None)
    put(products, i="came back", j="unknown", m="same")
    for item_id, text in {"a": "same", "c": "another", "d": "hollow", "g": "blank", "f": "before"}.items():
        store(products, docs, item_id, text)
    store(products, docs, "m", "same", metadata='{"lang": "de"}')
    store(products, docs, "i", None, version=7)
    store(products, docs, "k", None, version=8)
    store(products, docs, "ö", "orphaned", version=9)
    products.execute("DELETE FROM docs WHERE id = 'd'")
    add_row(products, "j", "no ledger knows")
    add_row(products, "l", "nobody knows")
    bury(products, "e", "dead", 6)
    products.execute("SELECT embedq.enqueue('docs', 'f', 'on its way')")


REPAIRS = [
    ("B", 1, "missing", {"lang": "en"}, True, "reconcile"),
    ("c", 6, "stale", {"lang": "en"}, True, "reconcile"),
    ("d", 6, "hollow", {"lang": "en"}, True, "reconcile"),
    ("g", 6, None, None, True, "reconcile"),
    ("i", 8, "came back", {"lang": "en"}, True, "reconcile"),
    ("j", 1, "unknown", {"lang": "en"}, True, "reconcile"),
    ("l", 1, None, None, True, "reconcile"),
    ("m", 6, "same", {"lang": "en"}, True, "reconcile"),
    ("ö", 10, None, None, True, "reconcile"),
]


def test_every_difference_is_found_and_mended(
    command_line: CliRunner, products: Connection, plain_docs: Collection
) -> None:
    """First said, then done; then all of it is on its way, and nothing is done again."""
    differ(products, plain_docs)
    counted = NONE | {
        "wanted": 9,
        "current": 1,
        "missing": 3,
        "stale": 2,
        "other_metadata": 1,
        "orphaned": 3,
        "on_its_way": 1,
        "dead": 1,
    }
    assert found(reconcile(command_line, "--dry-run", "--json", code=1)) == counted | {"enqueued": 0}
    assert len(products.execute(OUTBOX).fetchall()) == 1

    assert found(reconcile(command_line, "--yes", "--json")) == counted | {"enqueued": 9}
    repairs = [row for row in products.execute(OUTBOX) if row[-1] == "reconcile"]
    assert repairs == REPAIRS
    # The ledger would have told whoever brings this text that nothing changed.
    hollow = "SELECT id FROM embedq.item WHERE content_hash = '' AND deleted_at IS NULL"
    assert products.execute(hollow).fetchall() == [("d",)]

    again = found(reconcile(command_line, "--yes", "--json"))
    assert again == NONE | {"wanted": 9, "current": 1, "on_its_way": 10, "dead": 1, "enqueued": 0}


def test_repairs_become_vectors(stack: Stack) -> None:
    """By a real worker: also of rows that were deleted past it, and of an id that no ledger knows.

    Other metadata alone are written without a call.
    """
    stack.create("docs")
    connection = psycopg.connect(stack.database_url, autocommit=True)
    with connection, stack.worker(), stack.producer() as producer:
        producer.enqueue_many("docs", [{"id": str(n), "text": f"text {n}"} for n in range(6)])
        stack.wait_until_done()
        connection.execute("UPDATE docs SET id = 'stray' WHERE id = '0'")
        connection.execute("DELETE FROM docs WHERE id = '1'")
        lines: list[dict[str, Any]] = [{"id": str(n), "text": f"text {n + 9 * (n == 2)}"} for n in range(5)]
        lines[3]["metadata"] = {"lang": "en"}
        said = stack.command(
            "reconcile", "docs", "--file", "-", "--yes", stdin="\n".join(map(json.dumps, lines))
        )
        assert "6 ids enqueued" in said
        wait_until(lambda: not stack.sql("SELECT FROM embedq.outbox"), 20)
    assert stack.stored("docs") == {line["id"]: line["text"] for line in lines}
    assert stack.sql("SELECT metadata FROM docs WHERE id = '3'") == [({"lang": "en"},)]
    assert stack.api.stats().texts == 6 + 3


def test_a_person_is_told(command_line: CliRunner, products: Connection, plain_docs: Collection) -> None:
    """In words, with what to do about the rest."""
    differ(products, plain_docs)
    said = reconcile(command_line, "--keep-orphans", "--yes").stdout.splitlines()
    assert said == [
        "docs: of 9 ids in the source, 1 are stored as they are",
        "  3 missing",
        "  2 stale: stored with another text",
        "  1 stored with other metadata",
        "  3 not in the source, and kept",
        "  1 on their way, in the outbox",
        "  1 dead letters: see `embedq dead-letters list --collection docs`",
        "6 ids enqueued",
    ]
    assert all(row[2] is not None for row in products.execute(OUTBOX))


SAME = {
    "null": "{}",
    '{"b": [1, null], "a": {}}': '{"a": {}, "b": [1, null]}',
    '{"n": 1.0}': '{"n": 1}',
    '{"n": 1.5e17}': '{"n": 150000000000000000.0}',
    # A message carries floats.
    '{"n": 0.1234567890123456789}': '{"n": 0.12345678901234568}',
}
OTHER = {'{"n": true}': '{"n": 1}', '{"n": "1"}': '{"n": 1}', "[]": "{}", '{"n": null}': "{}"}


def test_metadata_are_compared_as_they_are_stored(
    command_line: CliRunner, products: Connection, plain_docs: Collection
) -> None:
    """By their values, each as a message carries it; and only where the source says what they are."""
    for number, (metadata, stored) in enumerate({**SAME, **OTHER}.items()):
        products.execute("INSERT INTO product VALUES (%s, 'text', %s)", (str(number), metadata))
        store(products, plain_docs, str(number), "text", metadata=stored)
    products.execute("INSERT INTO product VALUES ('none', 'text')")
    store(products, plain_docs, "none", "text", metadata="{}")
    counted = NONE | {"wanted": len(SAME) + len(OTHER) + 1, "current": len(SAME) + 1, "enqueued": 0}
    counted |= {"other_metadata": len(OTHER)}
    assert found(reconcile(command_line, "--dry-run", "--json", code=1)) == counted

    bare = ("--query", "SELECT sku AS id, name AS text FROM product")
    said = reconcile(command_line, "--dry-run", source=bare).stdout
    assert (
        said
        == f"docs: of {counted['wanted']} ids in the source, {counted['wanted']} are stored as they are\n"
    )


def test_what_can_be_no_item_is_left(
    command_line: CliRunner, products: Connection, plain_docs: Collection
) -> None:
    """Enqueued it would be a dead letter each time, or too long for an index."""
    long = "".join(content_hash(str(number)).hex() for number in range(50))
    put(products, **{"": "no id", "x" * 513: "a text", long: "a text", "y": "long" * (1 << 18) + "."})
    put(products, fits="text")
    store(products, plain_docs, "y", "short")
    counted = {"wanted": 5, "current": 0, "missing": 1, "unfit": 4, "enqueued": 1}
    assert found(reconcile(command_line, "--yes", "--json")) == NONE | counted
    assert "  4 that can be no items: " in reconcile(command_line, "--dry-run").stdout


@pytest.mark.usefixtures("plain_docs")
def test_a_person_is_asked(
    command_line: CliRunner, products: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is done; where nobody is there, that is said before everything is compared."""
    put(products, a="text")
    assert "--yes" in reconcile(command_line, code=2).stderr
    assert "one source" in reconcile(command_line, "--yes", "--file", "-", code=2).stderr

    monkeypatch.setattr("embedq_worker.cli.reconcile._is_terminal", lambda: True)
    assert "Enqueue 1 id? [y/N]: n" in reconcile(command_line, code=1, answer="n\n").output
    assert products.execute(OUTBOX).fetchall() == []
    assert "1 id enqueued" in reconcile(command_line, answer="y\n").output
    assert len(products.execute(OUTBOX).fetchall()) == 1


def test_one_reconciles_at_a_time(
    command_line: CliRunner, products: Connection, plain_docs: Collection
) -> None:
    """Two could give one version to two texts."""
    put(products, a="text")
    products.execute("SELECT pg_advisory_lock(73061, %s)", (plain_docs.id,))
    assert "by somebody else" in reconcile(command_line, "--yes", code=1).stderr


NEWEST = """
    SELECT product.sku FROM product JOIN (
        SELECT DISTINCT ON (id) id, text FROM embedq.outbox ORDER BY id, version DESC
    ) AS newest ON newest.id = product.sku AND newest.text IS DISTINCT FROM product.name
"""


@pytest.mark.usefixtures("plain_docs")
def test_what_changes_meanwhile_wins(
    command_line: CliRunner, products: Connection, database_url: str
) -> None:
    """Of what is on its way to an id, the highest version is always the source's text."""
    products.execute("INSERT INTO product SELECT n, 'text ' || n FROM generate_series(1, 3000) AS n")
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
            reconcile(command_line, "--yes")
    finally:
        ended.set()
        changer.join()
    both = "SELECT id FROM embedq.outbox GROUP BY id HAVING count(DISTINCT coalesce(source, '')) = 2"
    assert products.execute(both).fetchall()  # else nothing was shown
    assert products.execute(NEWEST).fetchall() == []
