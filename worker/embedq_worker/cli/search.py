"""``embedq search``: the texts nearest to a text."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from embedq.producer import Producer
from embedq_worker.cli.json_object import json_object
from embedq_worker.cli.session import open_database
from embedq_worker.errors import StaleVector
from embedq_worker.settings import Settings
from embedq_worker.store.collections import get_collection
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.search import Hit
from embedq_worker.store.search import search as search_by_vector

_TRIES = 8
_PAUSE = 0.5
_SHOWN = 200
"""Characters of a text that are shown to a person."""
_EXAMPLE = """embedq search docs "how do leases lapse?" -k 5 --filter '{"lang": "en"}'"""


@click.command(epilog=f"Example: {_EXAMPLE}")
@click.argument("collection")
@click.argument("text")
@click.option("-k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many rows.")
@click.option(
    "--filter",
    "filter_",
    metavar="JSON",
    callback=json_object,
    help="Only rows whose metadata contain this JSON object.",
)
@click.option("--json", "as_json", is_flag=True, help="One object a line, with the whole text.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for a worker to embed the text.",
)
def search(collection: str, text: str, k: int, filter_: str | None, as_json: bool, timeout: float) -> None:
    """Find the texts of a collection nearest to TEXT, nearest first, by cosine distance.

    Needs a running worker.
    """
    settings = Settings.from_environment()
    wanted: dict[str, Any] | None = None if filter_ is None else msgspec.json.decode(filter_)
    with open_database(settings) as connection:
        found = get_collection(connection, collection)
        with Producer(settings.broker_url, key_prefix=settings.key_prefix) as producer:
            hits = _search(connection, producer, found.name, text, k, wanted, timeout)
    for hit in hits:
        click.echo(msgspec.json.encode(hit).decode() if as_json else _line(hit))
    if not hits:
        said = "is empty" if wanted is None else "has no row with such metadata"
        click.echo(f"collection {collection} {said}", err=True)


def _search(
    connection: Connection,
    producer: Producer,
    collection: str,
    text: str,
    k: int,
    wanted: dict[str, Any] | None,
    timeout: float,
) -> list[Hit]:
    """Embed the text again where the collection has just moved to another model: workers learn of it within
    seconds."""
    tries_left = _TRIES
    while True:
        vector = producer.embed_query(collection, text, timeout)
        try:
            return search_by_vector(
                connection, collection, vector, k, filter=wanted, generation=vector.generation
            )
        except StaleVector:
            tries_left -= 1
            if not tries_left:
                raise
        time.sleep(_PAUSE)


def _line(hit: Hit) -> str:
    flat = " ".join((hit.content or "").split())
    return f"{hit.distance:.4f}  {hit.id}  {flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + '…'}"
