"""``embedq status``: what there is, what waits, and how the models stand."""

from __future__ import annotations

import click
import msgspec

from embedq.broker import Broker
from embedq.contract import Lane
from embedq_worker.cli.session import open_broker, open_database
from embedq_worker.cli.standing import Standing, notes, standing_of, summary
from embedq_worker.limiter.board import Change, Cooling, Pause, read_board
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import list_collections
from embedq_worker.store.connections import Connection
from embedq_worker.store.dead_letters import count_dead_letters
from embedq_worker.store.index_advice import Advice, advice_on, serves
from embedq_worker.store.index_status import index_report
from embedq_worker.store.queues import Waiting, waiting


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
    index_advice: list[Advice]


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One model that a collection uses; `embedq limits show` has more of it. Durations in seconds.

    ``slots`` of ``limit`` calls may be in flight; null where this command's file does not have the model.
    """

    id: str
    slots: int | None
    limit: int | None
    in_flight: int
    waiting: int
    processes: int
    paused: Pause | None
    cooling: Cooling | None
    held: float | None
    changed: Change | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; ``other_dead_letters`` are those of no collection that exists."""

    collections: list[CollectionStatus]
    models: list[ModelStatus]
    other_dead_letters: int


@click.command(epilog="Example: embedq status --json")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one object.")
def status(as_json: bool) -> None:
    """Show each collection's rows, queued messages, dead letters and index, and how its model stands.

    A model that is PAUSED is not called by any worker; its texts wait. `embedq limits show` tells more.
    """
    settings = Settings.from_environment()
    with open_database(settings) as connection, open_broker(settings) as broker:
        broker.call(lambda client: client.ping())
        collections = list_collections(connection)
        queues = {each.name: _waiting(broker, each.name, settings) for each in collections}
        models = [
            _standing(broker, model, settings) for model in sorted({each.model for each in collections})
        ]
        found = _look(connection, collections, queues, models)
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else _page(found, models))


def _waiting(broker: Broker, collection: str, settings: Settings) -> Waiting:
    return broker.call(lambda client: waiting(client, collection, settings.key_prefix))


def _standing(broker: Broker, model: str, settings: Settings) -> Standing:
    board = broker.call(lambda client: read_board(client, model, settings.key_prefix))
    return standing_of(board, settings.catalogue)


def _look(
    connection: Connection,
    collections: list[Collection],
    queues: dict[str, Waiting],
    models: list[Standing],
) -> Status:
    dead = dict(count_dead_letters(connection))
    looked_at = [
        _look_at(connection, each, queues[each.name], dead.pop(each.name, 0)) for each in collections
    ]
    return Status(
        collections=looked_at,
        models=[_model_status(each) for each in models],
        other_dead_letters=sum(dead.values()),
    )


def _model_status(each: Standing) -> ModelStatus:
    return ModelStatus(
        id=each.model,
        slots=each.slots,
        limit=each.in_force.max_concurrency if each.in_force else None,
        in_flight=each.in_flight,
        waiting=each.waiting,
        processes=each.processes,
        paused=each.paused,
        cooling=each.cooling,
        held=each.held,
        changed=each.changed,
    )


def _look_at(connection: Connection, collection: Collection, found: Waiting, dead: int) -> CollectionStatus:
    report = index_report(connection, collection)
    advice = advice_on(collection, report)
    return CollectionStatus(
        name=collection.name,
        model=collection.model,
        rows=report.rows,
        queued=found.queued,
        in_hand=found.in_hand,
        dead_letters=dead,
        has_index=serves(report),
        wants_index=any(each.code == "missing" for each in advice),
        index_advice=advice,
    )


def _page(found: Status, models: list[Standing]) -> str:
    paused = {each.model for each in models if each.paused}
    lines = [line for each in found.collections for line in _lines(each, each.model in paused)]
    if not found.collections:
        lines.append("no collections yet; create one with `embedq collection create`")
    lines += [line for each in models for line in _model_lines(each)]
    if found.other_dead_letters:
        lines.append(
            f"{found.other_dead_letters} dead letters of no collection; see `embedq dead-letters list`"
        )
    return "\n".join(lines)


def _model_lines(each: Standing) -> list[str]:
    return [f"model {summary(each)}", *(f"  {note}" for note in notes(each))]


def _lines(each: CollectionStatus, is_paused: bool) -> list[str]:
    queued = ", ".join(f"{lane} {count}" for lane, count in each.queued.items())
    index = "indexed" if each.has_index else "no index"
    rows = "table or a column is missing" if each.rows is None else f"{each.rows} rows, {index}"
    waits = f"queued: {queued}; in hand: {each.in_hand}; dead letters: {each.dead_letters}"
    lines = [f"{each.name}  {each.model}  {rows}; {waits}"]
    if is_paused:
        lines.append("  waits: its model is PAUSED, see below")
    return lines + [f"  {advice.text}" for advice in each.index_advice]
