"""``embedq search``: the texts nearest to a text."""

from __future__ import annotations

import click
import msgspec

from embedq.producer import Producer
from embedq_worker.cli.session import open_database
from embedq_worker.settings import Settings
from embedq_worker.store.collections import get_collection
from embedq_worker.store.search import Hit
from embedq_worker.store.search import search as search_by_vector

_SHOWN = 200
"""Characters of a text that are shown to a person."""


@click.command(epilog='Example: embedq search docs "how do leases lapse?" -k 5')
@click.argument("collection")
@click.argument("text")
@click.option("-k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many rows.")
@click.option("--json", "as_json", is_flag=True, help="One object a line, with the whole text.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for a worker to embed the text.",
)
def search(collection: str, text: str, k: int, as_json: bool, timeout: float) -> None:
    """Find the texts of a collection nearest to TEXT, nearest first, by cosine distance.

    Needs a running worker.
    """
    settings = Settings.from_environment()
    with open_database(settings) as connection:
        found = get_collection(connection, collection)
        with Producer(settings.broker_url, key_prefix=settings.key_prefix) as producer:
            vector = producer.embed_query(found.name, text, timeout=timeout)
        hits = search_by_vector(connection, found.name, vector, k)
    for hit in hits:
        click.echo(msgspec.json.encode(hit).decode() if as_json else _line(hit))
    if not hits:
        click.echo(f"collection {collection} is empty", err=True)


def _line(hit: Hit) -> str:
    flat = " ".join(hit.content.split())
    return f"{hit.distance:.4f}  {hit.id}  {flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + '…'}"
