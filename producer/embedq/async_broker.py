"""The connection to Redis for asyncio: as ``broker.py``, by redis-py's own asynchronous client."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from embedq.address import Address, pools_of
from embedq.broker import GRACE_SECONDS, UNLIMITED
from embedq.errors import EmbedqError
from embedq.query import Deadline
from embedq.retries import Attempts, foreign_errors, is_demoted
from embedq.steps import Command, Evaluate, Pause, Step, Steps

if TYPE_CHECKING:
    import redis.asyncio

T = TypeVar("T")

MAX_CONNECTIONS = 100
"""Connections of one producer: commands beyond them wait for one."""


class Clients(NamedTuple):
    """Of one event loop. What waits in Redis has connections of its own, as many as there are callers: items
    are enqueued, too, while no worker answers queries."""

    prompt: redis.asyncio.Redis
    blocking: redis.asyncio.Redis


class AsyncBroker:
    """Redis by its address. Every event loop has connections of its own, those of other threads too."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._clients: dict[asyncio.AbstractEventLoop, Clients] = {}

    async def run(self, steps: Steps[T], deadline: Deadline | None = None) -> T:
        """Take the steps of a rule, one after the other, and return its result.

        Raises what the rule raises, and ``BrokerUnavailable``, which the rule hears of.
        """
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._take(step, deadline)
                except EmbedqError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result

    async def close(self) -> None:
        """Close the connections of the running loop; the next call opens new ones."""
        with self._lock:
            clients = self._clients.pop(asyncio.get_running_loop(), ())
        for client in clients:
            for pool in pools_of(client):
                await pool.disconnect()

    async def _take(self, step: Step, deadline: Deadline | None) -> object:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        attempts: Attempts | None = None
        begun = time.monotonic()
        while True:
            client = self._client(step)
            try:
                async with asyncio.timeout(deadline.left + GRACE_SECONDS if deadline else None):
                    return await _execute(client, step)
            except foreign_errors() as error:  # a TimeoutError is an OSError
                if is_demoted(error):
                    await client.connection_pool.disconnect(inuse_connections=False)
                until = deadline.at if deadline else None
                attempts = attempts or Attempts(self._address.where, begun, until)
                pause = attempts.pause(error)
            await asyncio.sleep(pause)

    def _client(self, step: Step) -> redis.asyncio.Redis:
        loop = asyncio.get_running_loop()
        with self._lock:
            clients = self._clients.get(loop)
        if clients is None:
            clients = Clients(self._open(MAX_CONNECTIONS), self._open(UNLIMITED))
            with self._lock:
                open_ones = {each: kept for each, kept in self._clients.items() if not each.is_closed()}
                self._clients = {**open_ones, loop: clients}
        return clients.blocking if isinstance(step, Command) and step.blocks else clients.prompt

    def _open(self, connections: int) -> redis.asyncio.Redis:
        # Imported late: a service that uses the other producer does not pay for it.
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        options: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 0),
            "max_connections": connections,
            "timeout": None,
        }
        if self._address.scheme == "sentinel":
            return _master(self._address, options)
        pool = self._address.open(redis.asyncio.BlockingConnectionPool.from_url, **options)
        return redis.asyncio.Redis(connection_pool=pool)


def _master(address: Address, options: dict[str, Any]) -> redis.asyncio.Redis:
    """A client of the master that Sentinels name."""
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

    class Pool(SentinelConnectionPool, BlockingConnectionPool):
        """Of connections to the master, which are waited for."""

    sentinel: Any = Sentinel
    masters = sentinel(address.sentinels, **address.options, **options)
    master: redis.asyncio.Redis = masters.master_for(**address.master, connection_pool_class=Pool)
    return master


async def _execute(client: Any, step: Step) -> object:
    """One attempt at a step. redis-py closes a connection whose command was cancelled."""
    if isinstance(step, Command):
        return await client.execute_command(*step.words)
    if isinstance(step, Evaluate):
        return await step.script.run_async(client, step.keys, step.arguments)
    assert not isinstance(step, Pause)
    async with client.pipeline(transaction=True) as pipe:
        for command in step.commands:
            pipe.execute_command(*command.words)
        answers: list[object] = await pipe.execute()
        return answers
