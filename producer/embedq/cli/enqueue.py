"""``embedq enqueue``: the items of a source, good rows enqueued, bad ones counted and named."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from embedq.cli.loading import Load
from embedq.cli.progress import progress
from embedq.cli.sources.checkpoint import Checkpoint
from embedq.cli.sources.opening import open_source
from embedq.cli.sources.options import asked, source_options
from embedq.cli.sources.source import Source
from embedq.contract import Lane
from embedq.producer import Producer
from embedq.wording import counted

_POLL_SECONDS = 0.25


@click.command()
@click.argument("collection")
@source_options
@click.option(
    "--lane",
    type=click.Choice(["live", "bulk"]),
    default="live",
    show_default=True,
    help="bulk gives way to live.",
)
@click.option("--source", help="Name of the service that sends them, kept in every job.")
@click.option("--resume", is_flag=True, help="Go on with a load that was interrupted, behind its checkpoint.")
@click.option(
    "--checkpoint",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where it is kept how far the load is.  [default: a file in ~/.local/state/embedq]",
)
@click.option(
    "--wait", is_flag=True, help="Wait until the queue is empty and no message is in a worker's hands."
)
@click.option(
    "--broker-url",
    envvar="EMBEDQ_BROKER_URL",
    show_envvar=True,
    help="Redis, such as redis://localhost:6379/0.",
)
def enqueue(
    collection: str,
    lane: Lane,
    source: str | None,
    resume: bool,
    checkpoint: Path | None,
    wait: bool,
    broker_url: str | None,
    **values: Any,
) -> None:
    """Enqueue the items of a file, a directory, a query, or of standard input.

    A line of JSON Lines is {"id", "text"} with "version" and "metadata" if there are any, or {"id",
    "deleted": true}. CSV, TSV, Parquet and a query have columns, which the options name. Files may end in
    .gz. Of a directory each text and Markdown file is an item. Every good row is enqueued; with a bad one the
    exit code is 1.

    \b
    Example:
      embedq enqueue docs texts.jsonl --lane bulk --wait
      embedq enqueue docs products.csv --id sku --text name --text description --metadata brand
      embedq enqueue docs handbook/
      embedq enqueue docs --sql "SELECT id, body AS text FROM post" --database postgresql://localhost/app
    """
    with open_source(asked(values)) as opened, Producer(broker_url, source=source) as producer:
        load = _load(opened, collection, lane, producer.broker, checkpoint, resume)
        _run(load, producer, opened, collection)
        if wait:
            _wait(producer, collection, lane)
    if opened.bad.count:
        sys.exit(1)


def _load(source: Source, collection: str, lane: Lane, broker: str, file: Path | None, resume: bool) -> Load:
    if not source.is_resumable:
        if resume or file is not None:
            raise click.UsageError(f"{source.name} cannot be read from the middle, so nothing can be resumed")
        return Load(source, collection, lane, None)
    checkpoint = Checkpoint(collection, broker, source, file)
    load = Load(source, collection, lane, checkpoint)
    if resume:
        load.go_on()
    elif checkpoint.exists:
        click.echo("a load of it was interrupted; this one begins anew (--resume would go on)", err=True)
    return load


def _run(load: Load, producer: Producer, source: Source, collection: str) -> None:
    before = load.enqueued
    started = time.monotonic()
    with progress(f"enqueue to {collection}", source.total) as advance:
        load.run(producer, advance)
    seconds = time.monotonic() - started
    count = load.enqueued - before
    rate = count / max(seconds, 1e-6)
    summary = f"{counted(count, 'item')} enqueued to {collection} in {seconds:.1f} s ({rate:,.0f}/s)"
    resumed = f"; {load.enqueued:,} with those of before" if before else ""
    bad = f"; {counted(source.bad.count, f'bad {source.unit}')} left out" if source.bad.count else ""
    click.echo(summary + resumed + bad)


def _wait(producer: Producer, collection: str, lane: Lane) -> None:
    queued, in_hand = most, _ = producer.waiting(collection, lane)
    with progress("embed", most) as advance:
        while queued or in_hand:
            time.sleep(_POLL_SECONDS)
            queued, in_hand = producer.waiting(collection, lane)
            advance(most - queued)
    click.echo("the queue is empty and nothing is in hand")
