"""Overdue rows: sent to Redis long ago and not settled since; what became of their messages nobody knows.

They are sent again. But not while their messages may wait, however long: a backlog, a paused model or an
empty budget must not multiply them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic

import redis.asyncio as redis

from embedq_worker.limiter.board import read_boards
from embedq_worker.settings import Settings
from embedq_worker.store.fleet.queues import Queue, read_queues_async
from embedq_worker.store.outbox.unsettled import OutboxLane

_SLACK = 5.0
"""Seconds by which the clocks of Redis and Postgres may differ."""
_LOOKS = 10
"""Looks at a lane in the time after which its rows are overdue."""


class Overdue:
    """``is_held`` says whether texts of a queue wait for money or a paused model, as this process knows."""

    def __init__(self, settings: Settings, client: redis.Redis, is_held: Callable[[str], bool]) -> None:
        self._resend = settings.worker.outbox_resend
        self._prefix = settings.key_prefix
        self._redis = client
        self._is_held = is_held
        self._looked_at: dict[str, float] = {}

    async def age(self, lane: OutboxLane, epoch: int) -> float | None:
        """Seconds since they were sent after which rows of a lane are to be sent again.

        None: no row is, or it is not time yet to look. Raises redis-py's errors.
        """
        if lane.epoch < epoch or lane.age < self._resend or not self._is_time(lane.queue):
            return None
        queues = await read_queues_async(self._redis, [lane.queue], self._prefix)
        age = age_to_resend(self._resend, queues[lane.queue])
        if lane.age < age or self._is_held(lane.queue) or await self._is_paused(lane):
            return None
        return age

    def _is_time(self, queue: str) -> bool:
        now = monotonic()
        if now < self._looked_at.get(queue, -inf) + self._resend / _LOOKS:
            return False
        self._looked_at[queue] = now
        return True

    async def _is_paused(self, lane: OutboxLane) -> bool:
        boards = await read_boards(self._redis, [lane.model or ""], self._prefix)
        return any(board.paused for board in boards)


def age_to_resend(resend: float, queue: Queue) -> float:
    """Seconds since it was sent after which a row's message cannot be in the queue any more.

    Infinity where that is not known: a client of some other kind did not say when.
    """
    if not queue.length:
        return resend
    return inf if queue.oldest is None else max(resend, queue.oldest + _SLACK)
