"""The named statements: Postgres knows every table, column, function and type that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from psycopg import sql
from psycopg.pq import ExecStatus

from embedq_sql import statement
from embedq_worker.catalogue import Model
from embedq_worker.store.collections import create_collection
from embedq_worker.store.moving.successor import start
from embedq_worker.store.postgres.connections import Connection, connect

QUERIES = Path(str(files("embedq_sql"))) / "queries"
NAMES = {
    path.stem: re.findall(r"^-- name: (\w+)$", path.read_text(), re.MULTILINE)
    for path in sorted(QUERIES.glob("*.sql"))
}
PLACES = {
    "table": sql.Identifier("public", "docs"),
    "incoming": sql.Identifier("embedq_incoming"),
    "vector": sql.SQL("vector(3)"),
    "key_column": sql.Identifier("id"),
    "key_type": sql.SQL("text"),
    "vectors": sql.Identifier("embedding"),
    "other": sql.SQL("vector(2)"),
    "shadow": sql.Identifier("embedding_g2"),
    "search": sql.Identifier("public", "docs_search"),
    "landing": sql.Identifier("embedq_filling"),
}
"""What the placeholders of statements are here."""


def composed(name: str, connection: Connection) -> bytes:
    """A statement as it is run: with its placeholders filled, if it has any."""
    text = statement(name)
    return sql.SQL(text).format(**PLACES).as_bytes(connection) if re.search(r"{\w+}", text) else text.encode()


def refusal(text: bytes, connection: Connection) -> str:
    """What Postgres objects to when it parses a statement; nothing is run, and no parameter is needed."""
    names: list[bytes] = []

    def numbered(found: re.Match[bytes]) -> bytes:
        if found[1] not in names:
            names.append(found[1])
        return b"$%d" % (names.index(found[1]) + 1)

    prepared = connection.pgconn.prepare(
        b"", re.sub(rb"%\((\w+)\)[bst]", numbered, text).replace(b"%%", b"%")
    )
    return "" if prepared.status == ExecStatus.COMMAND_OK else prepared.get_error_message()


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection to a database with a collection that moves, and with what a writer makes for it."""
    with connect(database_url) as opened:
        create_collection(opened, name="docs", model=Model(id="small", dimensions=3))
        start(opened, "docs", Model(id="other", dimensions=2))
        opened.execute(composed("make_incoming_of_both", opened))
        opened.execute(composed("make_filling", opened))
        opened.execute(composed("make_listed", opened))
        yield opened


@pytest.mark.parametrize("file", NAMES)
def test_statements_are_understood(connection: Connection, file: str) -> None:
    """Each statement of a file names nothing that is not there."""
    refused = {name: refusal(composed(name, connection), connection) for name in NAMES[file]}

    assert {name: why for name, why in refused.items() if why} == {}


def test_no_name_is_given_twice() -> None:
    """Of two statements of one name the later file's would be run for both."""
    names = [name for names in NAMES.values() for name in names]

    assert sorted(names) == sorted(set(names))


def test_a_wrong_column_is_noticed(connection: Connection) -> None:
    """The check can fail."""
    text = composed("advance_ledger", connection)

    assert refusal(text, connection) == ""
    assert "content_hush" in refusal(text.replace(b"content_hash", b"content_hush"), connection)
