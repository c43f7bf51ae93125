"""``embedq enqueue``: the items of a JSON Lines file, good lines enqueued, bad ones counted and named."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import click

from embedq.cli.lines import Lines
from embedq.cli.progress import Advance, progress
from embedq.contract import Lane
from embedq.errors import BrokerUnavailable, EmbedqError, QueueFull
from embedq.producer import Producer

_SHOWN = 10
_POLL_SECONDS = 0.25
_REFRESH_LINES = 500


@dataclass
class BadLines:
    """The count of bad lines; the first ten are shown as they come, the rest are counted."""

    count: int = 0
    _name: str = field(default="-")

    def add(self, number: int, reason: str) -> None:
        """One more, on line ``number``."""
        self.count += 1
        if self.count <= _SHOWN:
            click.echo(f"{self._name}:{number}: {reason}", err=True)
        elif self.count == _SHOWN + 1:
            click.echo("more bad lines are counted, not shown", err=True)


@click.command()
@click.argument("collection")
@click.argument("file", type=click.File("rb"), metavar="FILE.jsonl|-")
@click.option(
    "--lane",
    type=click.Choice(["live", "bulk"]),
    default="live",
    show_default=True,
    help="bulk gives way to live.",
)
@click.option("--source", help="Name of the service that sends them, kept in every job.")
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
    collection: str, file: BinaryIO, lane: Lane, source: str | None, wait: bool, broker_url: str | None
) -> None:
    """Enqueue the items of a JSON Lines file, or of standard input.

    A line is {"id", "text"} with "version" and "metadata" if there are any, or {"id", "deleted": true}.
    Every good line is enqueued; with a bad one the exit code is 1.

    \b
    Example:
      embedq enqueue docs texts.jsonl --lane bulk --wait
    """
    bad = BadLines(_name=file.name)
    with Producer(broker_url, source=source) as producer:
        _send(producer, collection, file, lane, bad)
        if wait:
            _wait(producer, collection, lane)
    if bad.count:
        sys.exit(1)


def _send(producer: Producer, collection: str, file: BinaryIO, lane: Lane, bad: BadLines) -> None:
    lines = Lines(file, bad.add)
    started = time.monotonic()
    with progress(f"enqueue to {collection}", _size(file)) as advance:
        try:
            count = producer.enqueue_many(collection, _watched(lines, advance), lane, on_invalid=lines.reject)
        except (BrokerUnavailable, QueueFull) as error:
            done = f"{error.enqueued:,} items were enqueued when line {lines.number} had been read"
            raise EmbedqError(f"{error}; {done}") from error
    seconds = time.monotonic() - started
    summary = (
        f"{count:,} items enqueued to {collection} in {seconds:.1f} s ({count / max(seconds, 1e-6):,.0f}/s)"
    )
    click.echo(summary + (f"; {bad.count:,} bad lines left out" if bad.count else ""))


def _watched(lines: Lines, advance: Advance) -> Iterator[dict[str, Any]]:
    for item in lines:
        if lines.number % _REFRESH_LINES == 0:
            advance(lines.bytes_read)
        yield item


def _size(file: BinaryIO) -> int | None:
    """Bytes of a regular file; a pipe has no known size."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _wait(producer: Producer, collection: str, lane: Lane) -> None:
    queued, in_hand = most, _ = producer.waiting(collection, lane)
    with progress("embed", most) as advance:
        while queued or in_hand:
            time.sleep(_POLL_SECONDS)
            queued, in_hand = producer.waiting(collection, lane)
            advance(most - queued)
    click.echo("the queue is empty and nothing is in hand")
