"""``embedq dead-letters``: items that could not be embedded."""

from __future__ import annotations

import click
import msgspec

from embedq_worker.cli.session import open_database
from embedq_worker.settings import Settings
from embedq_worker.store.dead_letters import Listed, list_dead_letters


@click.group("dead-letters", epilog="Example: embedq dead-letters list --collection docs")
def dead_letters() -> None:
    """Look at items that could not be embedded."""


@dead_letters.command("list", epilog="Example: embedq dead-letters list --collection docs --limit 20")
@click.option("--collection", help="Only of this collection. Default: of all.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def list_(collection: str | None, limit: int, as_json: bool) -> None:
    """List the newest dead letters with their reasons, newest first. Their texts are not shown."""
    with open_database(Settings.from_environment()) as connection:
        listed = list_dead_letters(connection, collection, limit)
    for letter in listed:
        click.echo(msgspec.json.encode(letter).decode() if as_json else _line(letter))
    if not listed:
        click.echo("no dead letters", err=True)


def _line(letter: Listed) -> str:
    what = "a message" if letter.item_id is None else f"item {letter.item_id!r}"
    status = f" status {letter.status}" if letter.status is not None else ""
    parameter = f" parameter {letter.parameter}" if letter.parameter else ""
    tries = f"{letter.attempts} attempt{'' if letter.attempts == 1 else 's'}"
    where = letter.collection or "no collection"
    return (
        f"{letter.number}  {letter.last_at:%Y-%m-%d %H:%M:%S%z}  {where}  {what}: "
        f"{letter.cause} {letter.code}{status}{parameter}, {tries}"
    )
