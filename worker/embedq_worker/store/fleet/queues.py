"""The queues in Redis: how many messages are in each, and since when the oldest waits."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, cast, get_args

import msgspec

from embedq.contract import Lane
from embedq_worker.script import Script

if TYPE_CHECKING:
    import redis.asyncio

LANES: tuple[Lane, ...] = get_args(Lane)
QUEUES_AT_ONCE = 60
"""Queues of one script: the server does nothing else meanwhile."""
_SCRIPT = Script((files(__package__) / "queues.lua").read_text("utf-8"))


class Queue(msgspec.Struct, frozen=True):
    """One lane of a collection, and its oldest message."""

    length: int
    """Messages."""
    oldest: float | None
    """Seconds since it was enqueued; None for an empty queue, and where its client did not say when."""
    items: int | None
    """None where its client did not say how many."""
    is_known: bool = True
    """False where its key is no list, so that nothing can be queued: it counts as empty."""


def read_queues(client: redis.Redis, queues: Sequence[str], key_prefix: str = "") -> dict[str, Queue]:
    """How queues stand, by their names: at any length in the same time. Raises redis-py's errors.

    Of many queues, one part is read after another.
    """
    found: dict[str, Queue] = {}
    for part in _parts(queues):
        found |= _queues(part, _SCRIPT.run(client, [key_prefix + queue for queue in part], []))
    return found


async def read_queues_async(
    client: redis.asyncio.Redis, queues: Sequence[str], key_prefix: str = ""
) -> dict[str, Queue]:
    """Likewise through an asynchronous client."""
    found: dict[str, Queue] = {}
    for part in _parts(queues):
        found |= _queues(part, await _SCRIPT.run_async(client, [key_prefix + queue for queue in part], []))
    return found


def _parts(queues: Sequence[str]) -> list[Sequence[str]]:
    return [queues[at : at + QUEUES_AT_ONCE] for at in range(0, len(queues), QUEUES_AT_ONCE)]


def _queues(queues: Sequence[str], reply: object) -> dict[str, Queue]:
    time, *numbers = cast("list[bytes]", reply)
    lengths, enqueued, items = (numbers[at::3] for at in range(3))
    ages = [max(0.0, float(time) - float(at)) if at else None for at in enqueued]
    counts = [int(count) if count else None for count in items]
    found = zip(map(int, lengths), ages, counts, strict=True)
    read = [Queue(max(0, length), age, count, length >= 0) for length, age, count in found]
    return dict(zip(queues, read, strict=True))
