"""The reporter says to Redis every two seconds what this process has in hand and what it has done.

`embedq status` and the fleet's metrics read it (``store.fleet``, ``store.pace``). Nothing hangs on it: where
Redis is away the heartbeat says so, and the reports go on when it is back.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter, deque
from importlib.metadata import version
from time import monotonic

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from embedq.contract import queue_parts
from embedq_worker import names
from embedq_worker.intake.desk import Desk
from embedq_worker.intake.scripts import REPORT
from embedq_worker.logs import failure, get_logger
from embedq_worker.store.fleet.pace import KEPT
from embedq_worker.store.fleet.reports import WorkerReport, fields_of

logger = get_logger(__name__)

EVERY = 2.0
"""Seconds between two reports."""
LIFE = 15
"""Seconds that a report outlives its process at most."""
_RATE_OVER = 60.0
"""Seconds over which a process's items a second are counted."""
_TIMEOUT = 2.0
"""Seconds that Redis has for an answer."""

Done = dict[str, tuple[int, int]]
"""Messages and items by queue."""


class Reporter:
    """Reports of the process whose ``desk`` it is."""

    def __init__(self, broker_url: str, desk: Desk, *, key_prefix: str = "") -> None:
        self._url = broker_url
        self._desk = desk
        self._prefix = key_prefix
        self._key = key_prefix + names.REPORT + desk.process
        self._version = version("embedq")
        self._started = monotonic()
        self._told: Done = {}
        """What of the tally Redis was told."""
        self._past: deque[tuple[float, int]] = deque()
        """Times of the last minute, and the items that were done by then."""

    async def run(self) -> None:
        """Report until cancelled; then the report is taken back."""
        client = redis.Redis.from_url(
            self._url,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            retry=Retry(NoBackoff(), 0),  # it may have counted, though its answer was lost
        )
        try:
            while True:
                await self._try_to_report(client)
                await asyncio.sleep(EVERY)
        finally:
            try:
                await self._leave(client)
            finally:
                await client.aclose()

    async def _try_to_report(self, client: redis.Redis) -> None:
        try:
            await self._report(client)
        except (RedisError, OSError):
            pass  # the heartbeat says that it is away
        except Exception as error:
            logger.error("report_failed", "a worker report failed, the next follows", **failure(error))

    async def _report(self, client: redis.Redis) -> None:
        done = self._desk.tally.done
        fields = fields_of(self._look(done))
        flat = [part for pair in fields.items() for part in pair]
        arguments = [str(LIFE), self._prefix + names.PACE, str(KEPT), str(len(flat)), *flat]
        news = self._news(done)
        self._told = done  # also if the answer is lost: rather too few in an estimate than some twice
        await REPORT.run_async(client, [self._key], [*arguments, *news])

    async def _leave(self, client: redis.Redis) -> None:
        """Say what was done last, then nothing more: who stops in order leaves no report."""
        try:
            await self._report(client)
            await client.delete(self._key)
        except (RedisError, OSError):
            return  # it lapses by itself

    def _look(self, done: Done) -> WorkerReport:
        items = sum(items for _, items in done.values())
        return WorkerReport(
            process=self._desk.process,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=self._version,
            uptime=round(monotonic() - self._started, 1),
            is_stopping=self._desk.governor.stopped,
            messages=sum(messages for messages, _ in done.values()),
            items=items,
            items_per_second=round(self._rate(items), 2),
            in_hand=self._desk.in_hand.loads,
        )

    def _rate(self, items: int) -> float:
        """Items a second since a minute ago, or since the start."""
        now = monotonic()
        self._past.append((now, items))
        while self._past[0][0] < now - _RATE_OVER:
            self._past.popleft()
        since, before = self._past[0]
        return (items - before) / (now - since) if now > since else 0.0

    def _news(self, done: Done) -> list[str]:
        """What was done since the last report: collection, messages and items. Queries are no backlog."""
        messages: Counter[str] = Counter()
        items: Counter[str] = Counter()
        for queue, (now_messages, now_items) in done.items():
            collection, lane = queue_parts(queue)
            told_messages, told_items = self._told.get(queue, (0, 0))
            if lane != "query" and now_messages > told_messages:
                messages[collection] += now_messages - told_messages
                items[collection] += now_items - told_items
        return [part for name in messages for part in (name, str(messages[name]), str(items[name]))]
