"""The relay: rows of the outbox on their way to Redis.

Every process has one, of all collections and lanes, whatever else it serves; any number of them share the
work. A row is locked, sent, marked with the epoch that was read before it was sent, and committed. Whoever
dies in between leaves it unsent: it is sent twice then, never not at all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf
from time import monotonic
from typing import Any

import redis.asyncio as redis

from embedq.contract import MAX_WAKE_TOKENS, WAKE_KEY
from embedq.messages import Message
from embedq_worker.engine.monitoring.queue_labels import labels_of
from embedq_worker.engine.outbox.consignment import Consignment
from embedq_worker.engine.outbox.overdue import Overdue
from embedq_worker.engine.outbox.sentinel import Sentinel, epoch_in
from embedq_worker.metrics.outbox import OLDEST, RELAYED
from embedq_worker.script import leaving_demoted
from embedq_worker.settings import Settings
from embedq_worker.store.outbox.unsettled import Claimed, OutboxLane, claimed, look_at
from embedq_worker.store.postgres.database import Database

ROWS = 1_024
"""Rows of one transaction: four full messages."""
BYTES = 2 << 20
"""Bytes of text of one transaction: what is sent at once blocks Redis, and packing it the engine."""
PATIENCE = 2.0
"""Seconds that Redis has for what is sent while rows are locked."""
_LOOK_EVERY = 1.0
"""Seconds between two looks at the sentinel while nothing is to be sent."""
_BREATHER = 128
"""Rows packed in one go: calls and answers of the engine go on between."""
_IDLE = 3.0
"""How many times longer the pause becomes while there is nothing to send."""
_SLOWER = 1.2


class Relay:
    """Sends what is unsent. ``is_held`` says whether texts of a queue wait for money or a paused model."""

    def __init__(
        self, settings: Settings, database: Database, client: redis.Redis, is_held: Callable[[str], bool]
    ) -> None:
        self._database = database
        self._redis = client
        self._prefix = settings.key_prefix
        self._poll = settings.worker.outbox_poll
        self._most = settings.worker.outbox_queue
        self._sentinel = Sentinel(database, client, settings.key_prefix)
        self._overdue = Overdue(settings, client, is_held)
        self._is_sending = False
        self._afterwards: list[Callable[[], None]] = []
        self._looked_at = -inf
        self._pace = 1.0

    def pause(self, sent: int) -> float:
        """Seconds until the next round: none while rounds are full, longer while there is nothing."""
        if sent >= ROWS:
            return 0.0
        self._pace = 1.0 if sent else min(_IDLE, self._pace * _SLOWER)
        return self._poll * self._pace * random.uniform(0.75, 1.25)  # noqa: S311 - jitter

    async def go_round(self) -> int:
        """Send a transaction's worth of each lane that has something to send and room in its queue.

        Live lanes come first. Returns how many rows were settled: sent, or made dead letters. Raises
        ``StoreError`` and redis-py's errors.
        """
        present, lanes = await look_at(self._database)
        _measure(present, lanes)
        due = [
            (lane, await self._overdue.age(lane, present)) for lane in lanes if lane.collection is not None
        ]
        due = [(lane, age) for lane, age in due if lane.epoch < present or age is not None]
        if not due and monotonic() < self._looked_at + _LOOK_EVERY:
            return 0
        epoch, lengths = await self._ask([lane for lane, _ in due], present)
        done = 0
        for (lane, age), length in sorted(
            zip(due, lengths, strict=True), key=lambda each: each[0][0].is_bulk
        ):
            if length < self._most:
                done += await self._send(lane, epoch, age)
        return done

    async def _ask(self, lanes: Sequence[OutboxLane], present: int) -> tuple[int, list[int]]:
        """The epoch, from before anything is sent, and the lengths of the lanes' queues."""
        async with self._pipeline(transaction=False) as pipe:
            pipe.get(self._sentinel.key)
            for lane in lanes:
                pipe.llen(self._prefix + lane.queue)
            said, *lengths = await pipe.execute()
        self._looked_at = monotonic()
        if epoch_in(said) == present:
            return present, lengths
        return await self._sentinel.renew(), lengths

    def when_marked(self, work: Callable[[], None]) -> None:
        """Do ``work`` once what is being sent is marked, else now.

        This process may fetch what its relay has just sent. If it died of it before the rows are marked, the
        next one would send them anew and die of another copy, for ever.
        """
        if self._is_sending:
            self._afterwards.append(work)
        else:
            work()

    async def _send(self, lane: OutboxLane, epoch: int, age: float | None) -> int:
        async with (
            self._marking(),
            claimed(self._database, lane, epoch=epoch, age=age, rows=ROWS, size=BYTES) as claim,
        ):
            consignment = await _pack(lane, claim)
            if consignment.letters:
                await claim.bury(consignment.letters, consignment.refused)
            if consignment.messages:
                self._is_sending = True
                await self._push(consignment.messages)
                await claim.mark_sent(consignment.sent, epoch)
        RELAYED.labels(*labels_of(lane.queue)).inc(len(consignment.sent))
        return len(claim.rows)

    async def _push(self, messages: Sequence[Message]) -> None:
        """All of them or none: a Redis without memory must not take a part again and again."""
        async with self._pipeline(transaction=True) as pipe:
            for message in messages:
                pipe.lpush(self._prefix + message.queue, message.payload)
            pipe.lpush(self._prefix + WAKE_KEY, b"1")
            pipe.ltrim(self._prefix + WAKE_KEY, 0, MAX_WAKE_TOKENS - 1)
            await pipe.execute()

    @asynccontextmanager
    async def _marking(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._is_sending = False
            afterwards, self._afterwards = self._afterwards, []
            for work in afterwards:
                work()

    @asynccontextmanager
    async def _pipeline(self, *, transaction: bool) -> AsyncIterator[Any]:
        async with (
            leaving_demoted(self._redis),
            asyncio.timeout(PATIENCE),
            self._redis.pipeline(transaction=transaction) as pipe,
        ):
            yield pipe


async def _pack(lane: OutboxLane, claim: Claimed) -> Consignment:
    consignment = Consignment(lane)
    for number, row in enumerate(claim.rows, 1):
        consignment.add(row)
        if number % _BREATHER == 0:
            await asyncio.sleep(0)
    consignment.finish()
    return consignment


def _measure(present: int, lanes: Sequence[OutboxLane]) -> None:
    OLDEST.replace(
        {
            labels_of(lane.queue): lane.age if lane.epoch < present else 0.0
            for lane in lanes
            if lane.collection
        }
    )
