"""The fields of ``embedq status --json``. Scripts rely on them: fields are added, and none is renamed."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from embedq.contract import Lane
from embedq_worker.limiter.board import Change, Cooling, Pause
from embedq_worker.store.fleet.reports import Silent
from embedq_worker.store.indexes.advice import Advice
from embedq_worker.store.outbox.watches import State

PendingBy = Literal["pace", "oldest"]
"""Where the items of a queued message are known from: what was done lately, or the oldest message alone."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A collection's move to another model, to be switched (``next``) or finished (``previous``)."""

    model: str
    """The other model: the one to come, or the one that it came from."""
    state: Literal["next", "previous"]
    unfilled: int
    """Rows without a vector of the other model; an estimate above 100,000."""
    filled: float | None
    """The share of rows that have one, 0 to 1; null without any row."""


class CollectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One collection. Durations in seconds; ``queued`` and ``in_hand`` count messages, of suspects too."""

    name: str
    model: str
    rows: int | None
    """Those with a vector. Null when somebody dropped the table; an estimate above 100,000."""
    rows_are_estimated: bool
    queued: dict[Lane, int]
    in_hand: int
    oldest: dict[Lane, float | None]
    """Since the oldest queued message was enqueued; null where none is, or its client did not say."""
    pending_items: int | None
    """An estimate: messages of lanes live and bulk, times the items of one; null where not known."""
    pending_by: PendingBy | None
    items_per_second: float
    """Over the last three to four minutes."""
    eta: float | None
    """Until nothing is pending at that rate; null where nothing is, or nothing is done."""
    coverage: float | None
    """The share that is embedded and current, 0 to 1, an estimate; null where that is not known."""
    move: Move | None
    outbox: int
    """Rows enqueued in SQL and not settled yet, sent to Redis or not; counted up to 1,000."""
    outbox_oldest: float | None
    """Since the oldest row that is not sent was enqueued; null where all is sent."""
    watch: State | None
    """How it follows its table; null where it follows none."""
    tokens_today: int
    cost_today: Decimal | None
    """US dollars since midnight UTC; null where a model has no price."""
    dead_letters: int
    has_index: bool
    wants_index: bool
    index_advice: list[Advice]


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a model or a collection may use a day, and has used today."""

    scope: str
    name: str
    dollars: Decimal | None
    tokens: int | None
    spent_dollars: Decimal
    spent_tokens: int
    is_spent: bool
    """Its texts wait for midnight UTC, or for a higher budget."""


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


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process, as it said within the last seconds; ``in_hand`` and ``items`` in items."""

    host: str
    pid: int
    version: str
    uptime: float
    is_stopping: bool
    messages_in_hand: int
    items_in_hand: int
    items_per_second: float
    """Over the last minute."""
    items: int
    """Done since it began."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything; ``other_dead_letters`` are those of no collection that exists."""

    collections: list[CollectionStatus]
    models: list[ModelStatus]
    other_dead_letters: int
    workers: list[WorkerStatus]
    silent: list[Silent]
    """Processes that hold messages or a lease and say nothing."""
    budgets: list[Budget]
