"""The limiter: no model has more calls in flight, or made in a minute, than its limits allow, fleet-wide.

All that it knows is in Redis, and one script changes it (``lua/``). While Redis is away nothing is granted:
nobody calls.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import Callable

import msgspec
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    RedisError,
    ResponseError,
)

from embedq_worker.cancelling import cancel_all
from embedq_worker.errors import LimiterAway
from embedq_worker.limiter.exchange import (
    Grant,
    Limits,
    Reply,
    Request,
    decode_handed,
    decode_reply,
    encode_request,
)
from embedq_worker.limiter.gate import Gate
from embedq_worker.limiter.keys import mailbox_key, mailboxes_key, model_key
from embedq_worker.limiter.position import Position
from embedq_worker.limiter.scripts import exchange_script
from embedq_worker.logs import get_logger
from embedq_worker.metrics.servers import REDIS_ERRORS

logger = get_logger(__name__)

_AWAY_WAIT = 1.0
"""Seconds between two questions while Redis is away."""
_MAILBOX_WAIT = 2
"""Seconds that one look into the mailbox waits in the server."""


class Limiter:
    """The gates of all models in this process.

    ``lease`` and ``minute`` in seconds; shorter minutes are for tests.
    """

    def __init__(self, broker_url: str, *, lease: float, key_prefix: str = "", minute: float = 60.0) -> None:
        self.process = f"p-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._prefix = key_prefix
        self._lease = lease
        self._minute = minute
        # No retries: a script that ran and was not heard has granted leases. What is lost is told anew.
        pool = redis.ConnectionPool.from_url(
            broker_url,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: redis.Redis = redis.Redis.from_pool(pool)
        # One connection for all scripts and one for the mailbox: to take one from the pool each time costs
        # more than the script.
        self._scripts: redis.Redis = redis.Redis(connection_pool=pool, single_connection_client=True)
        self._gates: dict[str, Gate] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._mailbox: asyncio.Task[None] | None = None
        self._waits = asyncio.Event()
        self._trouble: str | None = None

    def gate(
        self,
        model: str,
        limits: Limits,
        *,
        on_grant: Callable[[Grant], None],
        on_pause: Callable[[], None] = lambda: None,
    ) -> Gate:
        """Open the gate to a model; there is one a process."""
        position = Position(
            self.process,
            model,
            limits,
            lease=self._lease,
            minute=self._minute,
            clock=asyncio.get_running_loop().time,
        )
        gate = Gate(self._exchange, position, on_grant=on_grant, on_pause=on_pause, on_wait=self._waits.set)
        self._gates[model] = gate
        self._runs[model] = asyncio.create_task(self._keep_running(gate))
        if self._mailbox is None:
            self._mailbox = asyncio.create_task(self._watch_mailbox())
        return gate

    async def close(self) -> None:
        """Tell what is not told yet, and close the connections."""
        await cancel_all([*self._runs.values(), *([self._mailbox] if self._mailbox else [])])
        for gate in self._gates.values():
            try:
                await gate.flush()
            except LimiterAway:
                break  # the leases lapse by themselves
        await self._scripts.aclose()
        await self._redis.aclose()

    async def _keep_running(self, gate: Gate) -> None:
        first = True
        while True:
            try:
                await gate.run()
            except LimiterAway as error:
                # A pooled connection may have been closed by the server: the first time ask again at once.
                if not first or self._trouble:
                    self._note_trouble(error)
                    await asyncio.sleep(_AWAY_WAIT * random.uniform(0.5, 1))  # noqa: S311 - jitter
                first = not first
            except Exception as error:
                # A defect of ours must not end the gate: everything of its model hangs on it.
                sentence = "the gate of model {model} failed, it goes on: {error}"
                logger.error("gate_failed", sentence, model=gate.model, error=type(error).__name__)
                await asyncio.sleep(_AWAY_WAIT)

    async def _exchange(self, request: Request) -> Reply:
        keys = (model_key(request.model, self._prefix), mailboxes_key(self._prefix))
        try:
            said = await exchange_script().run_async(self._scripts, keys, [encode_request(request)])
            reply = decode_reply(said)
        except (RedisError, OSError, msgspec.DecodeError) as error:
            REDIS_ERRORS.inc()
            raise LimiterAway(_trouble(error)) from error
        self._note_back()
        return reply

    async def _watch_mailbox(self) -> None:
        """Take the slots that other processes hand over, while anything is wanted here."""
        key = mailbox_key(self.process, self._prefix)
        while True:
            if not any(gate.waits for gate in self._gates.values()):
                self._waits.clear()
                await self._waits.wait()
            try:
                found = await self._redis.blpop(key, timeout=_MAILBOX_WAIT)
            except (RedisError, OSError):  # the gates say so
                await asyncio.sleep(_AWAY_WAIT * random.uniform(0.5, 1))  # noqa: S311 - jitter
                continue
            if found is not None:
                self._hand(found[1])

    def _hand(self, entry: bytes | str) -> None:
        try:
            handed = decode_handed(entry)
        except msgspec.DecodeError:
            logger.warning(
                "mail_unreadable", "an entry of the mailbox in Redis is not embedq's, it is dropped"
            )
            return
        if gate := self._gates.get(handed.model):
            gate.hand(handed)

    def _note_trouble(self, error: LimiterAway) -> None:
        if str(error) != self._trouble:
            logger.warning("leases_ungranted", "{reason}", reason=str(error))
        self._trouble = str(error)

    def _note_back(self) -> None:
        if self._trouble:
            logger.warning("leases_granted", "Redis grants leases again")
        self._trouble = None


def _trouble(error: Exception) -> str:
    """What is wrong with Redis, and what to do; only the class of the error, whose text may quote a key."""
    name = type(error).__name__
    if isinstance(error, ResponseError | AuthenticationError):
        return f"Redis refuses our leases ({name}), nothing is called until it grants them; look at its log"
    return f"Redis is away ({name}), nothing is called until it is back; look whether it runs"
