"""``embedq watch``: keep collections current with tables."""

from __future__ import annotations

from datetime import UTC, datetime

import click
import msgspec

from embedq_worker.cli.session import open_database
from embedq_worker.cli.standing import duration
from embedq_worker.settings import Settings
from embedq_worker.store.outbox.watches import WatchState, add_watch, list_watches, remove_watch

_ADVICE = {
    "behind": "changes were missed since {since} (SQLSTATE {code}); docs/watch.md says what to do",
    "triggers off": "a trigger was dropped or disabled; enable it, or add the watch again, then reconcile",
    "source dropped": "its table is gone; run `embedq watch remove {collection}`, or add a watch of another",
}
"""By state, what a person should do."""


_EXAMPLE = 'Example: embedq watch add shop.product --collection products --id sku --text "name || about"'


@click.group(epilog=_EXAMPLE)
def watch() -> None:
    """Keep collections current with tables: their changes by triggers, what they hold by a backfill."""


@watch.command(epilog=_EXAMPLE)
@click.argument("source")
@click.option("--collection", required=True, help="The collection that is to follow it.")
@click.option("--id", "key", required=True, help="The column with the items' ids: unique, never null.")
@click.option("--text", required=True, help="SQL expression over its columns: an item's text.")
@click.option("--metadata", help="SQL expression of type jsonb: an item's metadata.")
def add(source: str, collection: str, key: str, text: str, metadata: str | None) -> None:
    """Let a collection follow the table SOURCE, as SCHEMA.TABLE.

    The role of EMBEDQ_DATABASE_URL has to own the table and the schema embedq, or be a member of the roles
    that do. A watch that there is begins anew, with the expressions that are given now.
    """
    with open_database(Settings.from_environment()) as connection:
        add_watch(connection, source, collection=collection, key=key, text=text, metadata=metadata)
    click.echo(f"{collection} follows {source}; workers fill in what is there: `embedq watch list`")


@watch.command(epilog="Example: embedq watch remove products")
@click.argument("collection")
def remove(collection: str) -> None:
    """Let COLLECTION follow no table any more; its rows stay."""
    with open_database(Settings.from_environment()) as connection:
        remove_watch(connection, collection)
    click.echo(f"{collection} follows no table any more; its rows stay")


@watch.command("list", epilog="Example: embedq watch list --json")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: a list of objects.")
def list_(as_json: bool) -> None:
    """List which collections follow which tables, and how far they have come."""
    with open_database(Settings.from_environment()) as connection:
        watches = list_watches(connection)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(watches)).decode())
        return
    for each in watches:
        click.echo("\n  ".join([_line(each), *_advice(each)]))
    if not watches:
        click.echo("no collection follows a table; `embedq watch add` lets one do so", err=True)


def _line(watch: WatchState) -> str:
    about = f"{watch.collection}  follows {watch.source} by {watch.id}"
    if watch.filled_at is not None:
        return f"{about}; filled, {watch.filled_rows:,} rows"
    of = f" of about {watch.estimated_rows:,}" if watch.estimated_rows else ""
    return f"{about}; filling, {watch.filled_rows:,}{of} rows"


def _advice(watch: WatchState) -> list[str]:
    if watch.state not in _ADVICE:
        return []
    ago = "?"
    if watch.missed_since is not None:
        ago = duration((datetime.now(UTC) - watch.missed_since).total_seconds()) + " ago"
    said = _ADVICE[watch.state].format(collection=watch.collection, code=watch.missed_code, since=ago)
    return [click.style(f"{watch.state.upper()}: {said}", fg="red", bold=True)]
