"""A text embedded at once: the question goes out as a message, the vector comes back on a list of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from embedq.clock import BrokerClock
from embedq.contract import MAX_MESSAGE_BYTES, Item, Query, QueryReply, check_item, reply_key
from embedq.errors import ConfigurationError, InvalidItem, QueryFailed, QueryTimeout
from embedq.messages import query_message
from embedq.publishing import publish
from embedq.steps import Command, Steps

BLOCK_SECONDS = 2.0
"""How long Redis is asked to block for a reply at a time; below the time that an answer is waited for."""
MAX_TIMEOUT = 86_400
"""Seconds that a call may last: a day; dates and sockets take no number whatever."""
_NAMED = "(query)"
"""Stands for the id that a query does not have, in the errors about its text."""


class QueryVector(list[float]):
    """A vector of a search text, which knows its generation: which of the collection's models it comes from.

    Give it to a search function along with the vector (``docs_search(vector, 10, generation)``): where the
    collection has moved to another model meanwhile, the search is refused instead of answered with nonsense.
    None where the worker is too old to say.
    """

    def __init__(self, numbers: Iterable[float], generation: int | None = None) -> None:
        super().__init__(numbers)
        self.generation = generation


class Deadline:
    """The end of a call, ``timeout`` seconds after it began, by the monotonic clock."""

    def __init__(self, timeout: float) -> None:
        if not 0 < timeout <= MAX_TIMEOUT:
            raise ConfigurationError(f"timeout is {timeout}; give seconds above 0, {MAX_TIMEOUT:,} at most")
        self.timeout = timeout
        self.at = time.monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds; 0 when it is over."""
        return max(0.0, self.at - time.monotonic())


def ask(
    clock: BrokerClock,
    collection: str,
    text: str,
    deadline: Deadline,
    prefix: str = "",
    traceparent: str | None = None,
) -> Steps[QueryVector]:
    """The vector of ``text``.

    Raises ``InvalidItem``, ``QueryFailed``, ``QueryTimeout`` and ``BrokerUnavailable``.
    """
    now = clock.now()
    # The limit is the asker's: a worker that fetches the message later lets it go.
    expires = datetime.fromtimestamp(now / 1e6 + deadline.left, UTC).isoformat()
    message = query_message(Query(1, collection, text), now / 1e6, expires, traceparent)
    yield from publish([message], prefix, wake=True)
    while left := deadline.left:
        # Redis takes 0 for "for ever".
        seconds = max(0.01, min(left, BLOCK_SECONDS))
        popped = yield Command(("BLPOP", prefix + reply_key(message.task_id), seconds), blocks=True)
        if popped is not None:
            return _vector(popped[1])
    raise QueryTimeout(
        f"no worker answered a query of collection {collection!r} within {deadline.timeout:g} s: "
        "see `embedq status` whether one runs and serves it, or give a longer timeout"
    )


def check_query(text: object) -> None:
    """Hold the text of a query against the rules of a text. Raises ``InvalidItem``."""
    if type(text) is not str:
        raise InvalidItem(_NAMED, "text_type", f"its text is a {type(text).__name__}, not a string")
    check_item(Item(_NAMED, text))
    if len(text.encode()) > MAX_MESSAGE_BYTES:
        raise InvalidItem(_NAMED, "item_too_large", f"its text has more than {MAX_MESSAGE_BYTES} bytes")


def _vector(answer: bytes) -> QueryVector:
    try:
        reply = msgspec.json.decode(answer, type=QueryReply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise QueryFailed(
            "reply_unreadable", "the worker's reply is not one; do its and this version agree?"
        ) from None
    if reply.error is not None:
        raise QueryFailed(reply.error, reply.explanation or "the worker gave no explanation")
    if not reply.vector:
        raise QueryFailed("reply_unreadable", "the worker's reply has neither a vector nor an error")
    return QueryVector(reply.vector, reply.generation)
