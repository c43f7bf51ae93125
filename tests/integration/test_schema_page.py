"""docs/schema.md: every table, view and function is on it, as the database has them."""

from __future__ import annotations

from pathlib import Path

from embedq_worker.store.postgres.connections import Connection
from tests.docs import schema_page

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"


def test_page_is_up_to_date(connection: Connection) -> None:
    """``make docs`` was run after the last change of the schema."""
    assert PAGE.read_text("utf-8") == schema_page.render(connection)


def test_everything_has_a_comment(connection: Connection) -> None:
    """What has none would not be on the page."""
    assert schema_page.undocumented(connection) == []
    connection.execute("CREATE FUNCTION embedq.silent() RETURNS integer LANGUAGE sql RETURN 1")
    connection.execute("CREATE TABLE embedq.mute (id integer)")
    assert schema_page.undocumented(connection) == ["mute", "silent"]
