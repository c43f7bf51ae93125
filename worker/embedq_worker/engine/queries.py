"""Queries.

One text each, embedded before everything else, the vector pushed to a list that its caller waits on.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import msgspec
import redis.asyncio as redis
from redis.exceptions import ReadOnlyError, RedisError

from embedq.contract import Query, QueryReply, reply_key
from embedq_worker.engine.calling.dispatcher import Dispatcher
from embedq_worker.engine.summary import Summary
from embedq_worker.engine.texts import Shape
from embedq_worker.engine.work import Hold, Outcome, Vector, content_hash
from embedq_worker.errors import ApiError, NotCalled
from embedq_worker.limiter import Flow
from embedq_worker.logs import get_logger
from embedq_worker.script import leaving_demoted
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Spans

logger = get_logger(__name__)

_REPLY_LIFE = 60.0
"""Seconds that an answer waits for its caller, at most."""
_REPLY_GRACE = 2.0
"""Seconds that it waits after its caller gave up: their clocks may differ a little."""


class QueryKind(NamedTuple):
    """What a collection wants of a query's vector."""

    dimensions: int
    generation: int
    """Of the collection's model; it is told with the vector, since the collection may move to another."""


class Queries:
    """Answers queries over Redis."""

    def __init__(self, client: redis.Redis, key_prefix: str) -> None:
        self._redis = client
        self._prefix = key_prefix
        self._replies: set[asyncio.Task[None]] = set()

    def ask(
        self,
        query: Query,
        task_id: str,
        dispatcher: Dispatcher,
        kind: QueryKind,
        expires: float,
        hold: Hold,
        finish: Callable[[Summary], None],
        spans: Spans = (),
    ) -> None:
        """Have a query's text embedded and answer it, before ``expires`` by the monotonic clock."""
        waiter = _WaitingQuery(self, task_id, kind.generation, expires, hold, finish, spans)
        flow, shape = Flow("query", query.collection), Shape(kind.dimensions, "query")
        dispatcher.ask(content_hash(query.text), query.text, shape, flow, waiter)

    def fail(self, task_id: str, code: str, explanation: str, finish: Callable[[Summary], None]) -> None:
        """Answer a query with an error."""
        self.reply(task_id, QueryReply(v=1, error=code, explanation=explanation), finish)

    def reply(
        self,
        task_id: str,
        reply: QueryReply,
        finish: Callable[[Summary], None],
        life: float = _REPLY_LIFE,
    ) -> None:
        """Push an answer; a caller that no longer waits lets it lapse after ``life`` seconds."""
        task = asyncio.create_task(self._push(task_id, reply, life))
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)
        task.add_done_callback(lambda _: finish({"items": 1, "refused" if reply.error else "answered": 1}))

    async def finish(self) -> None:
        """Wait for the answers on their way."""
        while self._replies:
            await asyncio.wait(self._replies)

    async def _push(self, task_id: str, reply: QueryReply, life: float) -> None:
        if not _is_uuid(task_id):  # it becomes part of a key's name
            return
        key, text = self._prefix + reply_key(task_id), msgspec.json.encode(reply)
        try:
            try:
                await self._send(key, text, life)
            except ReadOnlyError:  # it may have failed over: once more, over a new connection
                await self._send(key, text, life)
        except (RedisError, OSError) as error:  # the caller's own time-out tells it
            logger.warning(
                "answer_not_pushed",
                "the answer to query {task} could not be pushed to Redis ({error}), its caller has to ask "
                "again",
                task=task_id,
                error=type(error).__name__,
            )

    async def _send(self, key: str, text: bytes, life: float) -> None:
        async with leaving_demoted(self._redis), self._redis.pipeline(transaction=True) as pipe:
            pipe.rpush(key, text)
            pipe.pexpire(key, int(1_000 * life))
            await pipe.execute()


class _WaitingQuery:
    """A query that waits for its vector."""

    __slots__ = ("_expires", "_finish", "_generation", "_hold", "_queries", "_task_id", "spans")
    source: str | None = None
    purpose: UsagePurpose = "queries"

    def __init__(
        self,
        queries: Queries,
        task_id: str,
        generation: int,
        expires: float,
        hold: Hold,
        finish: Callable[[Summary], None],
        spans: Spans,
    ) -> None:
        self.spans = spans
        self._queries = queries
        self._task_id = task_id
        self._generation = generation
        self._expires = expires
        self._hold = hold
        self._finish = finish

    @property
    def is_gone(self) -> bool:
        """Whether its caller has given up, or another process is to answer."""
        return self._hold.is_released or monotonic() > self._expires

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        reply = QueryReply(v=1, vector=vector.tolist(), generation=self._generation)
        life = min(_REPLY_LIFE, max(0.0, self._expires - monotonic()) + _REPLY_GRACE)
        self._queries.reply(self._task_id, reply, self._finish, life)

    def refused(self, error: ApiError, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        is_abandoned = isinstance(error, NotCalled) and error.code == "abandoned"
        if is_abandoned and self._hold.is_released:
            self._finish({"items": 1, Outcome.WITHDRAWN: 1})
        else:
            self._queries.fail(self._task_id, error.code or "bad_input", str(error), self._finish)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
