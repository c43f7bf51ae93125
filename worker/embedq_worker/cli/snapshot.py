"""What ``embedq status`` shows: everything at one moment, from Postgres and from what workers say in Redis.

It takes as many statements for fifty collections as for one, reads lengths and reports, and scans nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from embedq.contract import Lane, queue_name
from embedq_sql import statement
from embedq_worker.cli.standing import Standing, standing_of
from embedq_worker.cli.status_fields import (
    Budget,
    CollectionStatus,
    ModelStatus,
    Move,
    PendingBy,
    Status,
    WorkerStatus,
)
from embedq_worker.limiter.board import read_board
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import list_collections
from embedq_worker.store.dead_letters.listing import count_dead_letters
from embedq_worker.store.fleet.pace import Pace, read_pace
from embedq_worker.store.fleet.queues import LANES, Queue, read_queues
from embedq_worker.store.fleet.reports import Fleet, WorkerReport, read_fleet
from embedq_worker.store.indexes.advice import advice_on, serves
from embedq_worker.store.indexes.status import IndexReport, index_reports
from embedq_worker.store.outbox.pending import OutboxPending, outbox_pending
from embedq_worker.store.outbox.watches import State, list_watches
from embedq_worker.store.postgres.connections import Connection, store_errors
from embedq_worker.store.row_counts import Rows, row_counts, unfilled_counts
from embedq_worker.store.table_facts import table_facts
from embedq_worker.store.usage import UsageToday, usage_today

if TYPE_CHECKING:
    import redis

    from embedq.broker import Broker

_PATIENCE = {"lock_timeout": "1s", "statement_timeout": "10s"}
"""Who looks how things stand must not wait until a locked table is free."""


class Snapshot(NamedTuple):
    """The status, and the models as people are told of them."""

    status: Status
    standings: list[Standing]


class _Seen(NamedTuple):
    """What Redis says."""

    fleet: Fleet
    pace: dict[str, Pace]
    queues: dict[str, Queue]
    standings: list[Standing]


class _Tables(NamedTuple):
    """What Postgres says; lists in the order of the collections."""

    rows: list[Rows | None]
    reports: list[IndexReport]
    unfilled: dict[int, int]
    """Of the collections that move, by their place."""
    dead: dict[str | None, int]
    usage: list[UsageToday]
    outbox: dict[str, OutboxPending]
    watches: dict[str, State]

    def used(self, collection: str) -> UsageToday | None:
        """What it has cost today."""
        found = (each for each in self.usage if (each.scope, each.name) == ("collection", collection))
        return next(found, None)


class _Waiting(NamedTuple):
    """What of one collection is not done."""

    queued: dict[Lane, int]
    oldest: dict[Lane, float | None]
    in_hand: int
    items: int | None
    by: PendingBy | None


def take(connection: Connection, broker: Broker, settings: Settings) -> Snapshot:
    """Look at everything, at Redis while Postgres works. Raises ``StoreError`` and ``BrokerUnavailable``."""
    with store_errors("the status was not read"):
        for name, value in _PATIENCE.items():
            connection.execute(statement("session_setting"), {"name": name, "value": value})
    collections = list_collections(connection)
    with ThreadPoolExecutor(1) as beside:
        looking = beside.submit(broker.call, lambda client: _look(client, collections, settings))
        tables = _look_at_tables(connection, collections)
        seen = looking.result()
    return Snapshot(_status(collections, tables, seen), seen.standings)


def _look(client: redis.Redis, collections: Sequence[Collection], settings: Settings) -> _Seen:
    prefix = settings.key_prefix
    queues = [queue_name(each.name, lane) for each in collections for lane in LANES]
    models = sorted({model for each in collections for model in _models(each)})
    return _Seen(
        fleet=read_fleet(client, prefix),
        pace=read_pace(client, prefix),
        queues=read_queues(client, queues, prefix),
        standings=[standing_of(read_board(client, each, prefix), settings.catalogue) for each in models],
    )


def _models(collection: Collection) -> list[str]:
    return [collection.model, *([collection.shadow.model] if collection.shadow else [])]


def _look_at_tables(connection: Connection, collections: Sequence[Collection]) -> _Tables:
    facts = table_facts(connection, collections)
    rows = row_counts(connection, collections, facts)
    moving = [number for number, each in enumerate(collections) if each.shadow and rows[number]]
    unfilled = unfilled_counts(
        connection, [collections[each] for each in moving], [facts[each] for each in moving]
    )
    return _Tables(
        rows=rows,
        reports=index_reports(connection, collections, facts, rows),
        unfilled=dict(zip(moving, unfilled, strict=True)),
        dead=count_dead_letters(connection),
        usage=usage_today(connection),
        outbox=outbox_pending(connection),
        watches={each.collection: each.state for each in list_watches(connection)},
    )


def _status(collections: Sequence[Collection], tables: _Tables, seen: _Seen) -> Status:
    names = {each.name for each in collections}
    return Status(
        collections=[_collection(each, number, tables, seen) for number, each in enumerate(collections)],
        models=[_model(each) for each in seen.standings],
        other_dead_letters=sum(count for name, count in tables.dead.items() if name not in names),
        workers=sorted(map(_worker, seen.fleet.reports), key=lambda each: (each.host, each.pid)),
        silent=seen.fleet.silent,
        budgets=[_budget(each) for each in tables.usage if each.is_limited],
    )


def _collection(collection: Collection, number: int, tables: _Tables, seen: _Seen) -> CollectionStatus:
    """``number``: its place among all."""
    rows, report = tables.rows[number], tables.reports[number]
    advice = advice_on(collection, report)
    waiting = _waiting(collection.name, seen)
    pace = seen.pace.get(collection.name)
    rate = pace.items_per_second if pace else 0.0
    move = _move(collection, rows, tables.unfilled.get(number, 0))
    dead = tables.dead.get(collection.name, 0)
    used = tables.used(collection.name)
    outbox = tables.outbox.get(collection.name, OutboxPending(0, None))
    return CollectionStatus(
        name=collection.name,
        model=collection.model,
        rows=report.rows,
        rows_are_estimated=rows is not None and rows.is_estimate,
        queued=waiting.queued,
        in_hand=waiting.in_hand,
        oldest=waiting.oldest,
        pending_items=waiting.items,
        pending_by=waiting.by,
        items_per_second=round(rate, 2),
        eta=round(waiting.items / rate, 1) if waiting.items and rate else None,
        coverage=_coverage(collection, rows, move, waiting.items, dead),
        move=move,
        outbox=outbox.rows,
        outbox_oldest=outbox.oldest,
        watch=tables.watches.get(collection.name),
        tokens_today=used.tokens if used else 0,
        cost_today=_cost(used),
        dead_letters=dead,
        has_index=serves(report),
        wants_index=any(each.code == "missing" for each in advice),
        index_advice=advice,
    )


def _waiting(name: str, seen: _Seen) -> _Waiting:
    queues = {lane: seen.queues[queue_name(name, lane)] for lane in LANES}
    held = {lane: seen.fleet.in_hand(queue_name(name, lane)) for lane in LANES}
    suspects = {lane: seen.fleet.suspects.get(queue_name(name, lane), 0) for lane in LANES}
    messages = sum(queues[lane].length + held[lane] + suspects[lane] for lane in LANES if lane != "query")
    mean, by = _mean(queues, seen.pace.get(name))
    known = mean is not None or not messages
    return _Waiting(
        queued={lane: queue.length for lane, queue in queues.items()},
        oldest={lane: queue.oldest for lane, queue in queues.items()},
        in_hand=sum(held.values()) + sum(suspects.values()),
        items=round(messages * (mean or 0.0)) if known else None,
        by=by if messages else None,
    )


def _mean(queues: Mapping[Lane, Queue], pace: Pace | None) -> tuple[float | None, PendingBy | None]:
    """The items of a message, and where that is known from."""
    if pace is not None and (mean := pace.items_per_message) is not None:
        return mean, "pace"
    said = [each.items for lane, each in queues.items() if lane != "query" and each.items is not None]
    return (sum(said) / len(said), "oldest") if said else (None, None)


def _move(collection: Collection, rows: Rows | None, unfilled: int) -> Move | None:
    shadow = collection.shadow
    if shadow is None:
        return None
    every = rows.every if rows else 0
    filled = max(0.0, 1 - unfilled / every) if every else None
    return Move(model=shadow.model, state=shadow.state, unfilled=unfilled, filled=filled)


def _coverage(
    collection: Collection, rows: Rows | None, move: Move | None, pending: int | None, dead: int
) -> float | None:
    """Of a collection that moves, the part that its next model has; of an own table, the rows with a vector;
    else what is stored of all that is stored, pending or dead.
    """
    if rows is None or pending is None:
        return None
    if move is not None and move.state == "next":
        return move.filled
    if not collection.is_managed:
        return None if rows.filled is None or not rows.every else rows.filled / rows.every
    every = rows.every + pending + dead
    return rows.every / every if every else None


def _cost(used: UsageToday | None) -> Decimal | None:
    if used is None:
        return Decimal(0)
    return None if used.unpriced_tokens and used.unpriced_tokens == used.tokens else used.cost


def _budget(each: UsageToday) -> Budget:
    return Budget(
        scope=each.scope,
        name=each.name,
        dollars=each.budget_dollars,
        tokens=each.budget_tokens,
        spent_dollars=each.cost,
        spent_tokens=each.tokens,
        is_spent=each.is_spent,
    )


def _worker(report: WorkerReport) -> WorkerStatus:
    return WorkerStatus(
        host=report.host,
        pid=report.pid,
        version=report.version,
        uptime=report.uptime,
        is_stopping=report.is_stopping,
        messages_in_hand=sum(messages for messages, _ in report.in_hand.values()),
        items_in_hand=sum(items for _, items in report.in_hand.values()),
        items_per_second=report.items_per_second,
        items=report.items,
    )


def _model(each: Standing) -> ModelStatus:
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
