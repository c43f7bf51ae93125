"""``embedq migrate``: create or update the schema."""

from __future__ import annotations

import click

from embedq_worker.cli.session import open_database
from embedq_worker.settings import Settings
from embedq_worker.store.migrations import apply_migrations


@click.command(epilog="Example: EMBEDQ_DATABASE_URL=postgresql://localhost/shop embedq migrate")
def migrate() -> None:
    """Create or update embedq's schema in the database.

    Safe to repeat, and to run from several places at once. The first time it creates the extension vector,
    which may need a superuser.
    """
    with open_database(Settings.from_environment()) as connection:
        applied = apply_migrations(connection)
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("the schema is current, nothing to do")
