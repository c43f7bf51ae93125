"""``embedq reconcile``: a collection held against its source, and what differs enqueued anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click
import msgspec

from embedq.cli.progress import Advance, progress
from embedq.cli.sources.opening import open_source
from embedq.cli.sources.options import Asked
from embedq.cli.sources.source import Source as Rows
from embedq.contract import Item, check_item
from embedq.errors import BrokerUnavailable, InvalidItem
from embedq.items import read_item
from embedq_worker.cli.session import open_broker, open_database
from embedq_worker.engine.work import content_hash
from embedq_worker.errors import SourceError
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import get_collection
from embedq_worker.store.fleet.backlog import Waiting, waiting
from embedq_worker.store.postgres.connections import Connection
from embedq_worker.store.reconcile.comparing import Comparing, Mend, Tally
from embedq_worker.store.reconcile.listing import list_items
from embedq_worker.store.reconcile.misses import Misses
from embedq_worker.store.reconcile.repairs import Repairs
from embedq_worker.store.reconcile.sides import Sides, at_one_moment
from embedq_worker.store.reconcile.source import Source, queried, watched

_STEP = 1_000
"""Items of a file between two steps of the bar."""


@click.command(
    epilog="Example: embedq reconcile products --query 'SELECT sku AS id, name AS text FROM product'"
)
@click.argument("collection")
@click.option("--query", help="Another source: id, text, perhaps metadata; version where it is given.")
@click.option(
    "--file", metavar="FILE|DIRECTORY|-", help="Another source: one that `embedq enqueue` reads, as it is."
)
@click.option("--keep-orphans", is_flag=True, help="Delete nothing that the source does not have.")
@click.option("--dry-run", is_flag=True, help="Only say what differs; exit code 1 if something does.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one object.")
def reconcile(
    collection: str,
    query: str | None,
    file: str | None,
    keep_orphans: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Compare COLLECTION with its source, and enqueue what differs.

    Its source is the table that it follows (`embedq watch`), or what --query or --file says.

    Texts are compared by their digests, and metadata where the source has any: other metadata alone cost no
    call. A text that is null or blank counts as not there. What waits in the outbox, and texts that are dead
    letters, are counted and left alone. Repairs go through the outbox in lane bulk, and give way to whatever
    changes meanwhile.
    """
    if query is not None and file is not None:
        raise click.UsageError("give one source: --query, or --file")
    if not (dry_run or yes or _is_terminal()):
        raise click.UsageError("there is nobody to ask: give --yes, or --dry-run")
    settings = Settings.from_environment()
    with open_database(settings) as reading, open_database(settings) as writing:
        found = get_collection(reading, collection)
        source = _source(reading, found, query, file)
        desk = _Desk(settings, reading, writing, found, source, Misses(writing, found), keep_orphans)
        desk.go(dry_run=dry_run, yes=yes, as_json=as_json)


class Said(Tally, kw_only=True):
    """What ``--json`` says."""

    collection: str
    queued_messages: int | None
    """The collection's in Redis, those in the hands of workers among them; null where Redis is away."""
    enqueued: int
    """Repairs."""


@dataclass
class _Desk:
    """Two connections: what is read is read in one transaction."""

    settings: Settings
    reading: Connection
    writing: Connection
    collection: Collection
    source: Source
    misses: Misses
    keep_orphans: bool

    def go(self, *, dry_run: bool, yes: bool, as_json: bool) -> None:
        """Look, ask unless told not to, and mend what there is to mend by then."""
        repairs = Repairs(self.writing, self.collection)
        repairs.claim()
        tally = self._compare(repairs.enqueue if yes else None)
        if not (yes or dry_run) and tally.to_mend:
            for line in _lines(self._said(tally, 0)):
                click.echo(line, err=as_json)
            click.confirm(f"Enqueue {_ids(tally.to_mend)}?", abort=True, err=as_json)
            tally = self._compare(repairs.enqueue)
        if not dry_run:
            self._follow_again(tally)
        said = self._said(tally, 0 if dry_run else tally.to_mend)
        click.echo(msgspec.json.encode(said).decode() if as_json else "\n".join(_lines(said)))
        if dry_run and tally.to_mend:
            sys.exit(1)

    def _compare(self, mend: Mend | None) -> Tally:
        self.misses.note()
        sides = Sides(self.reading, self.collection, self.source)
        comparing = Comparing(sides, self.collection, content_hash, keep_orphans=self.keep_orphans)
        with (
            at_one_moment(self.reading),
            progress(f"compare {self.collection.name}", sides.count() or None) as advance,
        ):
            self.misses.compare(self.reading)
            return comparing.run(advance, mend)

    def _follow_again(self, tally: Tally) -> None:
        """A watch is no longer behind, if this was its table, and nothing was left as it is unseen."""
        is_all = self.source.is_narrow and not (tally.on_its_way or tally.kept)
        if is_all and self.misses.forget():
            click.echo(f"{self.collection.name}: changes that were missed are made up for", err=True)

    def _said(self, tally: Tally, enqueued: int) -> Said:
        waiting = self._waiting()
        queued = None if waiting is None else waiting.in_hand + sum(waiting.queued.values())
        found = msgspec.structs.asdict(tally)
        return Said(collection=self.collection.name, **found, queued_messages=queued, enqueued=enqueued)

    def _waiting(self) -> Waiting | None:
        name, prefix = self.collection.name, self.settings.key_prefix
        try:
            with open_broker(self.settings) as broker:
                return broker.call(lambda client: waiting(client, name, prefix))
        except BrokerUnavailable:
            return None


def _source(connection: Connection, collection: Collection, query: str | None, file: str | None) -> Source:
    if query is not None:
        return queried(connection, query)
    return watched(connection, collection) if file is None else _listed(connection, file)


def _listed(connection: Connection, file: str) -> Source:
    with open_source(Asked(file)) as rows, progress(f"read {rows.name}", rows.total) as advance:
        source = list_items(connection, _items(rows, advance))
    if rows.bad.count:
        raise SourceError(
            f"{rows.name} has {rows.bad.count:,} bad lines, and nothing was done: mend them, else their "
            "items would count as not there"
        )
    return source


def _items(rows: Rows, advance: Advance) -> Iterator[Item]:
    for number, row in enumerate(rows, 1):
        try:
            item = read_item(row)
            if item.text and not item.text.isspace():
                check_item(item)
            yield item
        except InvalidItem as error:
            rows.reject(error)
        if number % _STEP == 0:
            advance(rows.done)


def _lines(said: Said) -> Iterator[str]:
    """For a person."""
    yield f"{said.collection}: of {_ids(said.wanted)} in the source, {said.current:,} are stored as they are"
    counts = {
        "missing": said.missing,
        "stale: stored with another text": said.stale,
        "stored with other metadata": said.other_metadata,
        "orphaned: stored, and not in the source": said.orphaned,
        "not in the source, and kept": said.kept,
        "on their way, in the outbox": said.on_its_way,
        f"dead letters: see `embedq dead-letters list --collection {said.collection}`": said.dead,
        "that can be no items: an id is empty or above 512 characters, or a text above 1 MiB": said.unfit,
        "stored with as high a version as the source gives, or a higher one": said.ahead,
    }
    yield from (f"  {count:,} {what}" for what, count in counts.items() if count)
    if said.queued_messages is None:
        yield "Redis is away: whether messages are queued is not known"
    elif said.queued_messages:
        yield f"{said.queued_messages:,} messages are queued or in hand; what they bring is counted above"
    if said.enqueued:
        yield f"{_ids(said.enqueued)} enqueued"


def _ids(count: int) -> str:
    return f"{count:,} id{'' if count == 1 else 's'}"


def _is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()
