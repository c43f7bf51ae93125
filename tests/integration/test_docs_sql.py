"""Every statement of the pages with SQL runs on the demo's collection, and gives the columns that are shown.

A block that cannot run there has a line `<!-- not run: why -->` before it. `$1` is a question's vector, and
the demo's dimensions stand for those of the page's model. Roles that a block names are made for it. What a
block does is rolled back.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from embedq_worker.demo.questions import QUESTIONS
from embedq_worker.embedded.local_api import DIMENSIONS, Model
from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.demo import load_demo
from tests.support.filled import literal

THEIRS = 1536
"""Dimensions of the model that the page speaks of."""
DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("languages.md", "outbox.md", "sql.md", "usage.md")
FENCED = re.compile(
    r"(?:<!-- not run: (?P<excuse>.+?) -->\n)?^```sql\n(?P<text>.*?)^```\n(?:\n```text\n(?P<header>.*?)\n)?",
    re.MULTILINE | re.DOTALL,
)
GRANTED = re.compile(r"\b(?:GRANT|POLICY|ALTER ROLE)\b[^;]*?\b(?:TO|ROLE) ([a-z_]+)\b", re.IGNORECASE)
CREATED = re.compile(r"\bCREATE (?:ROLE|USER) ([a-z_]+)\b", re.IGNORECASE)
NO_ROLE = {"public", "current_user", "session_user"}


class Block(NamedTuple):
    """A fenced block of SQL: the number of its first line, and the names of the columns shown below it."""

    page: str
    line: int
    text: str
    excuse: str | None
    columns: list[str]


def blocks() -> list[Block]:
    """Those of the pages."""
    return [block for name in PAGES for block in blocks_of(name, (DOCS / name).read_text("utf-8"))]


def blocks_of(name: str, page: str) -> list[Block]:
    """Those of one page."""
    return [
        Block(
            name,
            page.count("\n", 0, found.start("text")) + 1,
            found["text"],
            found["excuse"],
            [name.strip() for name in found["header"].split("|")] if found["header"] else [],
        )
        for found in FENCED.finditer(page)
    ]


def test_blocks_are_found() -> None:
    """As many as there are, however the page is written."""
    for name in PAGES:
        count = (DOCS / name).read_text("utf-8").count("```sql\n")
        assert len([block for block in blocks() if block.page == name]) == count > 1
    assert any(block.columns for block in blocks())


def test_every_block_runs(database_url: str) -> None:
    """Where a result is shown it has rows, and the columns that are shown. One test: loading takes long."""
    model = Model()
    vectors, _ = model.embed([QUESTIONS[0]])
    failures = []
    with connect(database_url) as connection:
        load_demo(connection, model)
        for block in blocks():
            if block.excuse is None:
                try:
                    run(connection, block, f"'{literal(vectors[0])}'")
                except (psycopg.Error, AssertionError) as error:
                    failures.append(f"docs/{block.page}, line {block.line}: {error}")
    assert not failures, "\n".join(failures)


def run(connection: Connection, block: Block, question: str) -> None:
    """Run a block and take it back; ``question`` is a literal."""
    with connection.transaction(force_rollback=True):
        make_roles(connection, block.text)
        # Several statements at once take no parameters: the vector is put in as psql would.
        text = block.text.replace("$1", question).replace(f"({THEIRS})", f"({DIMENSIONS})")
        cursor = connection.execute(sql.SQL(text))
        while cursor.nextset():
            pass
        if block.columns:
            assert [column.name for column in cursor.description or []] == block.columns
            assert cursor.fetchall() != []


def make_roles(connection: Connection, text: str) -> None:
    """Make the roles that a block gives rights or settings, unless it makes them or the server has them."""
    there = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    for name in set(GRANTED.findall(text)) - set(CREATED.findall(text)) - there - NO_ROLE:
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
