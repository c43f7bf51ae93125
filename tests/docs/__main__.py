"""Write the pages that are made from the code: ``make docs``."""

from __future__ import annotations

from pathlib import Path

from embedq_worker.embedded.postgres import Postgres
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.postgres.connections import connect
from tests.docs import commands_page, schema_page, settings_page

DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    """All of them."""
    (DOCS / "settings.md").write_text(settings_page.render(), "utf-8")
    (DOCS / "commands.md").write_text(commands_page.render(), "utf-8")
    with Postgres() as server, connect(server.url) as connection:
        apply_migrations(connection)
        (DOCS / "schema.md").write_text(schema_page.render(connection), "utf-8")


if __name__ == "__main__":
    main()
