"""What waits, how fast it goes and which model is not called: lengths and reports in Redis, never scans."""

from __future__ import annotations

import msgspec

from embedq.broker import Broker
from embedq.contract import Lane, queue_name
from embedq_worker.limiter.board import ModelBoard, read_board
from embedq_worker.store.fleet.pace import Pace, read_pace
from embedq_worker.store.fleet.queues import LANES, Queue, read_queues
from embedq_worker.store.fleet.reports import Fleet, read_fleet
from embedq_worker.store.registry import read_registry


class CollectionLine(msgspec.Struct, frozen=True, kw_only=True):
    """One collection."""

    name: str
    model: str
    queued: dict[Lane, int]
    """Messages."""
    oldest: float | None
    """Seconds since the oldest of them was enqueued."""
    in_hand: int
    """Messages that living workers hold."""
    suspects: int
    """Messages whose worker died."""
    messages_per_minute: float
    items_per_second: float
    seconds_left: float | None
    """Until its queues are empty at this pace, an estimate; None where nothing waits, or nothing is done."""


class ModelLine(msgspec.Struct, frozen=True, kw_only=True):
    """One model that a collection uses."""

    id: str
    in_flight: int
    slots: int | None
    waiting: int
    state: str
    """In words; with the reason where it is not called."""
    is_stopped: bool


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at one moment."""

    collections: list[CollectionLine]
    models: list[ModelLine]
    workers: int
    silent: int
    """Worker processes that hold messages and say nothing."""


def queue_lengths(broker: Broker) -> dict[str, int]:
    """The messages of every queue. Raises as ``read_overview`` does."""
    return {name: queue.length for name, queue in _queues(broker, sorted(read_registry(broker))).items()}


def read_overview(broker: Broker) -> Overview:
    """The fleet now. Raises ``BrokerUnavailable``, and ``ConfigurationError`` of a registry that is none."""
    prefix = broker.key("")
    registered = read_registry(broker)
    queues = _queues(broker, sorted(registered))
    fleet = broker.call(lambda client: read_fleet(client, prefix))
    paces = broker.call(lambda client: read_pace(client, prefix))
    return Overview(
        collections=[
            _collection(name, known.model, queues, fleet, paces.get(name, Pace()))
            for name, known in sorted(registered.items())
        ],
        models=[_model(broker, each) for each in sorted({known.model for known in registered.values()})],
        workers=len(fleet.reports),
        silent=len(fleet.silent),
    )


def _queues(broker: Broker, collections: list[str]) -> dict[str, Queue]:
    names = [queue_name(each, lane) for each in collections for lane in LANES]
    return broker.call(lambda client: read_queues(client, names, broker.key("")))


def _collection(name: str, model: str, queues: dict[str, Queue], fleet: Fleet, pace: Pace) -> CollectionLine:
    lanes = {lane: queue_name(name, lane) for lane in LANES}
    own = [queues[queue] for queue in lanes.values()]
    items = pace.items_per_message or next((queue.items for queue in own if queue.items), None)
    messages = sum(queue.length for queue in own)
    rate = pace.items_per_second
    return CollectionLine(
        name=name,
        model=model,
        queued={lane: queues[queue].length for lane, queue in lanes.items()},
        oldest=max((queue.oldest for queue in own if queue.oldest is not None), default=None),
        in_hand=sum(map(fleet.in_hand, lanes.values())),
        suspects=sum(fleet.suspects.get(queue, 0) for queue in lanes.values()),
        messages_per_minute=60 * rate / items if items else 0.0,
        items_per_second=rate,
        seconds_left=messages * items / rate if messages and items and rate else None,
    )


def _model(broker: Broker, model: str) -> ModelLine:
    board = broker.call(lambda client: read_board(client, model, broker.key("")))
    state = _state(board)
    return ModelLine(
        id=model,
        in_flight=board.in_flight,
        slots=board.slots or board.live.max_concurrency,
        waiting=board.waiting,
        state=state or "called as needed",
        is_stopped=state is not None,
    )


def _state(board: ModelBoard) -> str | None:
    """Why it is not called, if it is not."""
    if board.paused is not None:
        return f"PAUSED for {board.paused.seconds:.0f} s: {board.paused.reason}"
    if board.cooling is not None:
        return f"cooling for {board.cooling.seconds_left:.0f} s more: {board.cooling.why}"
    if board.held is not None:
        return f"held for {board.held:.0f} s more: Redis lost what it knew of calls in flight"
    return None
