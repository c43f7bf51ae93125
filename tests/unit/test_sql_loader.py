"""The SQL files: names, descriptions, and what the loader makes of them."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from embedq_sql import migrations, statement, template

HERE = Path(str(files("embedq_sql")))
FILES = sorted(HERE.rglob("*.sql"))
NAMES = [
    name
    for path in HERE.glob("queries/*.sql")
    for name in re.findall(r"^-- name: (.*)$", path.read_text(), re.M)
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_says_what_it_is(path: Path) -> None:
    """Every SQL file begins with a comment."""
    assert path.read_text().startswith("-- ")


def test_names_are_given_once() -> None:
    """No two statements have one name, for the later would hide the earlier."""
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_its_statement(name: str) -> None:
    """A named statement is found, begins with its verb and holds no other's."""
    text = statement(name)

    assert re.match(r"[A-Z]+\s", text)
    assert "-- name:" not in text
    assert text == text.strip()


def test_unknown_names_are_errors() -> None:
    """A misspelt name fails at once."""
    with pytest.raises(KeyError):
        statement("colections")
    with pytest.raises(KeyError):
        template("colection")


def test_migrations_are_numbered_in_order() -> None:
    """File names are 0001_words.sql, 0002_words.sql and so on, without a gap."""
    names = list(migrations())

    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+", name) for name in names)
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_templates_name_no_identifier_in_comments() -> None:
    """A placeholder in a comment would be filled too, and a name with a line break would end the comment."""
    comments = [
        line for path in HERE.glob("templates/**/*.sql") for line in re.findall("--.*", path.read_text())
    ]

    assert [comment for comment in comments if re.search("[{}%]", comment)] == []


@pytest.mark.parametrize("path", sorted(HERE.glob("templates/functions/*.sql")), ids=lambda path: path.stem)
def test_functions_order_rows_as_the_index_does(path: Path) -> None:
    """Where a function orders the table itself, it is by the plain distance, which alone pgvector serves.

    Or by what no index can be taken for: an exact answer is wanted then.
    """
    orders = re.findall(r"ORDER BY ([^\n]*<[=~]>[^\n]*|[^\n]*\{\w+\}[^\n]*)", path.read_text())

    assert {order for order in orders if " + 0, " not in order} <= {"{order}"}
