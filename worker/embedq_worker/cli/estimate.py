"""``embedq estimate``: what embedding a file would cost, before it is enqueued."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import click

from embedq.cli.progress import progress
from embedq.cli.sources.opening import open_source
from embedq.cli.sources.options import asked, source_options
from embedq.cli.sources.source import Source
from embedq.contract import Item, check_item
from embedq.errors import BrokerUnavailable, InvalidItem
from embedq.items import read_item
from embedq.wording import counted
from embedq_worker.catalogue import Model
from embedq_worker.cli.money import as_json
from embedq_worker.cli.reckoning import Estimate, Reckoning
from embedq_worker.cli.session import open_broker, open_database
from embedq_worker.cli.standing import duration
from embedq_worker.engine.work import content_hash
from embedq_worker.limiter import Limits
from embedq_worker.limiter.board import read_board
from embedq_worker.money import dollars
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import get_collection
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.usage import stored_hashes

_AT_ONCE = 1_000
"""Items between two looks at the ledger, and two steps of the bar."""


@click.command(epilog="Example: embedq estimate docs texts.jsonl --call-seconds 0.4")
@click.argument("collection")
@source_options
@click.option("--skip-stored", is_flag=True, help="Leave out items whose text is stored already.")
@click.option(
    "--call-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="How long a call takes (embedq_call_seconds of the metrics), to reckon with max_concurrency.",
)
@click.option("--json", "is_json", is_flag=True, help="Machine-readable: one object.")
def estimate(
    collection: str, skip_stored: bool, call_seconds: float | None, is_json: bool, **values: Any
) -> None:
    """Say what embedding the items of a source would take: texts, tokens, dollars, time.

    Sources are those of `embedq enqueue`. Nothing is enqueued or called. Equal texts are counted each, though
    many of them cost one call. With a bad row the exit code is 1.
    """
    settings = Settings.from_environment()
    with open_source(asked(values)) as source, open_database(settings) as connection:
        found = get_collection(connection, collection)
        model = settings.catalogue.usable(found.model)
        reckoning = Reckoning(found, model)
        _read(connection if skip_stored else None, found, source, reckoning)
    reckoning.bad_lines = source.bad.count
    limits, whence = _limits(settings, model)
    estimated = reckoning.estimate(limits, call_seconds)
    click.echo(as_json(estimated) if is_json else "\n".join(_lines(estimated, whence)))
    if source.bad.count:
        sys.exit(1)


def _read(ledger: Connection | None, collection: Collection, source: Source, reckoning: Reckoning) -> None:
    items = _items(source)
    with progress(f"estimate for {collection.name}", source.total) as advance:
        while batch := list(islice(items, _AT_ONCE)):
            _add(reckoning, batch, {} if ledger is None else _stored(ledger, collection, batch))
            advance(source.done)


def _items(source: Source) -> Iterator[Item]:
    """Those that could be enqueued; versions are not looked at."""
    for row in source:
        try:
            item = read_item(row)
            check_item(Item(item.id, item.text, None, item.metadata, item.deleted), "clock")
        except InvalidItem as error:
            source.reject(error)
        else:
            yield item


def _stored(ledger: Connection, collection: Collection, items: Sequence[Item]) -> dict[str, bytes]:
    return stored_hashes(ledger, collection.id, [item.id for item in items])


def _add(reckoning: Reckoning, items: Sequence[Item], stored: dict[str, bytes]) -> None:
    for item in items:
        if item.deleted or item.text is None:
            reckoning.add_delete()
        elif item.id in stored and stored[item.id] == content_hash(item.text):
            reckoning.add_unchanged()
        else:
            reckoning.add(item.text)


def _limits(settings: Settings, model: Model) -> tuple[Limits, str]:
    """Those in force now, and where they are from."""
    file = Limits.of(model)
    try:
        with open_broker(settings) as broker:
            board = broker.call(lambda client: read_board(client, model.id, settings.key_prefix))
    except BrokerUnavailable:
        return file, "the file's limits: Redis, which knows those set live, is away"
    return board.live.over(file), "the limits of now"


def _lines(found: Estimate, whence: str) -> list[str]:
    left_out = {
        "unchanged": found.unchanged,
        "deletes": found.deletes,
        "too long, dead letters": found.too_long,
        "bad rows": found.bad_lines,
    }
    others = "".join(f", {count:,} {name}" for name, count in left_out.items() if count)
    basis = "by the model's tokenizer" if found.is_exact else "estimated on the high side"
    price = "" if found.dollars is None else " at the provider's list price"
    return [
        f"{counted(found.items, 'item')} with a text{others}",
        f"{counted(found.texts, 'text')} for {found.model}, {counted(found.tokens, 'token')} ({basis})",
        f"{counted(found.requests, 'request')} at least",
        f"cost: {dollars(found.dollars)}{price}",
        _time(found, whence),
    ]


def _time(found: Estimate, whence: str) -> str:
    if found.seconds is None:
        return (
            "time: as long as the service takes: the model has no limits a minute; give --call-seconds to "
            "reckon with max_concurrency"
        )
    return f"time: at least {duration(found.seconds)}, by {found.rests_on} ({whence})"
