"""``embedq status``: what there is and what waits."""

from __future__ import annotations

import click
import msgspec

from embedq.contract import Lane
from embedq_worker.cli.session import open_broker, open_database
from embedq_worker.settings import Settings
from embedq_worker.store.collections import Collection, count_rows, list_collections
from embedq_worker.store.connections import Connection
from embedq_worker.store.dead_letters import count_dead_letters
from embedq_worker.store.indexes import vector_indexes
from embedq_worker.store.queues import Waiting, waiting

WORTH_AN_INDEX = 10_000
"""Rows above which a search without an index is slow enough to remind of it."""


class CollectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One collection; ``rows`` is null when somebody dropped its table, and an estimate above 100,000."""

    name: str
    model: str
    rows: int | None
    queued: dict[Lane, int]
    in_hand: int
    dead_letters: int
    has_index: bool
    wants_index: bool


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; ``other_dead_letters`` are those of no collection that exists."""

    collections: list[CollectionStatus]
    other_dead_letters: int


@click.command(epilog="Example: embedq status --json")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one object.")
def status(as_json: bool) -> None:
    """Show each collection's rows, queued messages, dead letters and index."""
    settings = Settings.from_environment()
    with open_database(settings) as connection, open_broker(settings) as broker:
        collections = list_collections(connection)
        queues = {
            name: broker.call(lambda client, name=name: waiting(client, name, settings.key_prefix))  # type: ignore[misc] # mypy cannot infer a lambda with a default
            for name in [each.name for each in collections]
        }
        found = _look(connection, collections, queues)
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else _page(found))


def _look(connection: Connection, collections: list[Collection], queues: dict[str, Waiting]) -> Status:
    dead = dict(count_dead_letters(connection))
    looked_at = [
        _look_at(connection, each, queues[each.name], dead.pop(each.name, 0)) for each in collections
    ]
    return Status(collections=looked_at, other_dead_letters=sum(dead.values()))


def _look_at(connection: Connection, collection: Collection, found: Waiting, dead: int) -> CollectionStatus:
    rows = count_rows(connection, collection)
    has_index = any(index.valid for index in vector_indexes(connection, collection))
    return CollectionStatus(
        name=collection.name,
        model=collection.model,
        rows=rows,
        queued=found.queued,
        in_hand=found.in_hand,
        dead_letters=dead,
        has_index=has_index,
        wants_index=not has_index and (rows or 0) > WORTH_AN_INDEX,
    )


def _page(found: Status) -> str:
    lines = [line for each in found.collections for line in _lines(each)]
    if not found.collections:
        lines.append("no collections yet; create one with `embedq collection create`")
    if found.other_dead_letters:
        lines.append(
            f"{found.other_dead_letters} dead letters of no collection; see `embedq dead-letters list`"
        )
    return "\n".join(lines)


def _lines(each: CollectionStatus) -> list[str]:
    queued = ", ".join(f"{lane} {count}" for lane, count in each.queued.items())
    index = "indexed" if each.has_index else "no index"
    rows = "table is missing" if each.rows is None else f"{each.rows} rows, {index}"
    waits = f"queued: {queued}; in hand: {each.in_hand}; dead letters: {each.dead_letters}"
    lines = [f"{each.name}  {each.model}  {rows}; {waits}"]
    if each.wants_index:
        lines.append(f"  searches read every row: run `embedq index build {each.name}`")
    return lines
