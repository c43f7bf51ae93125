"""Every exception that embedq raises to its callers.

    EmbedqError
    ├── ConfigurationError      a setting is missing or cannot be right
    ├── InvalidItem             an item breaks a rule of the contract
    ├── RegistryError
    │   ├── NoRegistry          nothing is known of any collection
    │   └── UnknownCollection   the collection is not among the registered ones
    ├── BrokerUnavailable       Redis did not take the message
    ├── QueueFull               the queue is longer than the producer allows
    ├── OutboxUnavailable       the database has no outbox, or none for this role
    └── QueryError
        ├── QueryFailed         the worker answered with an error
        └── QueryTimeout        no worker answered in time

The worker's own errors derive from ``EmbedqError`` too (``embedq_worker.errors``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from embedq.wording import counted


class EmbedqError(Exception):
    """Base of everything that embedq raises on purpose."""


class ConfigurationError(EmbedqError):
    """A setting is missing or cannot be right; the message names it."""


class InvalidItem(EmbedqError, ValueError):
    """An item breaks a rule of the contract.

    ``item_id`` is the item's id where it has one, ``rule`` a stable short name of the rule (``text_empty``,
    ``text_nul``, …). The item's text is never part of the message. ``enqueued`` is the number of items that
    the failed call had enqueued: of ``enqueue_many`` all items before this one.
    """

    enqueued = 0

    def __init__(self, item_id: str | None, rule: str, explanation: str) -> None:
        self.item_id = item_id
        self.rule = rule
        self.explanation = explanation
        named = "an item without a usable id" if item_id is None else f"item {item_id!r}"
        super().__init__(f"{named}: {explanation} ({rule})")

    def __reduce__(self) -> tuple[type[InvalidItem], tuple[str | None, str, str], dict[str, Any]]:
        return type(self), (self.item_id, self.rule, self.explanation), self.__dict__


class RegistryError(EmbedqError):
    """The registry of collections cannot answer for a collection."""


class NoRegistry(RegistryError):
    """Redis holds no registry: no worker ever ran, or Redis was emptied."""

    def __init__(self) -> None:
        super().__init__(
            "Redis holds no registry of collections: no worker has run on it, or it was emptied. "
            "Start a worker or run `embedq collection list`, either publishes it; "
            "or use Producer(check=False) to enqueue without the check."
        )


class UnknownCollection(RegistryError):
    """The collection is not registered; ``known`` has the names that are."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = sorted(known)
        names = ", ".join(self.known) or "none yet"
        super().__init__(
            f"collection {name!r} is not registered; registered: {names}. "
            "Create it with `embedq collection create`."
        )

    def __reduce__(self) -> tuple[type[UnknownCollection], tuple[str, list[str]]]:
        return type(self), (self.name, self.known)


class BrokerUnavailable(EmbedqError):
    """Redis cannot be reached, or refused a command; the message says which.

    ``enqueued`` is the number of items that the failed call is known to have enqueued, the first ones of
    its iterable. Those after them may have been enqueued too where the connection was lost before the
    answer: to enqueue them again is harmless with the same versions, and costs at most a call where the
    clock gives them.
    """

    enqueued = 0


class QueueFull(EmbedqError):
    """The queue already holds ``length`` messages, at or above the producer's ``limit``.

    ``enqueued`` is the number of items that the failed call had enqueued, the first ones of its iterable.
    """

    enqueued = 0

    def __init__(self, queue: str, length: int, limit: int) -> None:
        self.queue = queue
        self.length = length
        self.limit = limit
        super().__init__(
            f"queue {queue!r} holds {counted(length, 'message')}, the limit is {limit}: "
            "wait for the workers, or raise max_queue_length"
        )

    def __reduce__(self) -> tuple[type[QueueFull], tuple[str, int, int], dict[str, Any]]:
        return type(self), (self.queue, self.length, self.limit), self.__dict__


class OutboxUnavailable(EmbedqError):
    """The database has no outbox, or the connection's role may not enqueue; the message says which."""


class QueryError(EmbedqError):
    """A text could not be embedded for a search."""


class QueryFailed(QueryError):
    """The worker answered with an error; ``code`` is its short name."""

    def __init__(self, code: str, explanation: str) -> None:
        self.code = code
        self.explanation = explanation
        super().__init__(f"{explanation} ({code})")

    def __reduce__(self) -> tuple[type[QueryFailed], tuple[str, str]]:
        return type(self), (self.code, self.explanation)


class QueryTimeout(QueryError):
    """No worker answered in time."""
