"""The linter of SQL: that it reads every file, and finds a mistake in each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlfluff
from sqlfluff.core.linter.discovery import paths_from_path

ROOT = Path(__file__).parents[2]
SQL = Path("sql/embedq_sql")
DEMO = Path("worker/embedq_worker/demo/tokens.sql")
MISTAKES = {
    "a schema": (SQL / "schema.sql", "version bigint NOT NULL", "version bigint NOT NUL"),
    "a migration": (SQL / "migrations/0001_first.sql", "REFERENCES embedq", "REFERENCE embedq"),
    "a named statement": (SQL / "queries/search.sql", "FROM", "FORM"),
    "a statement without its end": (SQL / "queries/retention.sql", ";", ""),
    "an alias that is none": (DEMO, "ON collection.id", "ON collected.id"),
    "a template": (SQL / "templates/collection.sql", "COLLATE", "COLATE"),
    "a function's body": (SQL / "templates/functions/search.sql", "ORDER BY", "ORDRE BY"),
    "a query of the demo": (DEMO, "WHERE", "WEHRE"),
}


def found(text: str) -> list[str]:
    """The rules that a text breaks."""
    return [each["code"] for each in sqlfluff.lint(text, config_path=str(ROOT / "pyproject.toml"))]


def test_every_file_is_read() -> None:
    """What `sqlfluff lint .` reads is every SQL file of the repository."""
    tops = [entry for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith(".")]

    read = {Path(path).resolve() for path in paths_from_path(str(ROOT), working_path=str(ROOT))}

    assert read == {path for top in tops for path in top.rglob("*.sql")}
    assert ROOT / "sql/embedq_sql/schema.sql" in read


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_found(kind: str) -> None:
    """A file is clean, and with one mistake it is not."""
    path, right, wrong = MISTAKES[kind]
    text = (ROOT / path).read_text()

    assert right in text
    assert found(text) == []
    assert found(text.replace(right, wrong, 1)) != []
