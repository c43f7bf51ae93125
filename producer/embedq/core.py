"""What ``Producer`` and ``AsyncProducer`` have in common: everything but the input and output."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from embedq.address import Address
from embedq.clock import BrokerClock
from embedq.contract import UNACKED_KEY, Lane, Versions, is_collection_name, queue_name
from embedq.enqueueing import Enqueueing, OnInvalid
from embedq.errors import ConfigurationError, InvalidItem
from embedq.outbox import OutboxMethods
from embedq.outgoing import Outgoing
from embedq.packing import Packer
from embedq.query import Deadline, QueryVector, ask, check_query
from embedq.query_cache import QueryCache
from embedq.queue_limit import QueueLimit, WhenFull
from embedq.registry import Registry
from embedq.steps import Command, Steps, Transaction
from embedq.tracing import Sending, sending


class ProducerCore:
    """The rules of one producer, and what it remembers: registry, clock, queries. Safe to share."""

    def __init__(
        self, source: str | None, prefix: str, *, check: bool, limit: QueueLimit, cache: QueryCache
    ) -> None:
        if source is not None and not 0 < len(source) <= 200:
            raise ConfigurationError(f"source has {len(source)} characters; give 1 to 200")
        self.source = source
        self._prefix = prefix
        self._registry = Registry(prefix) if check else None
        self._clock = BrokerClock()
        self._limit = limit
        self._cache = cache

    def begin(
        self, collection: str, lane: Lane, on_invalid: OnInvalid | None, sent: Sending
    ) -> Steps[Enqueueing]:
        """One call of ``enqueue_many``."""
        if lane not in get_args(Lane) or lane == "query":
            raise ConfigurationError(f"lane is {lane!r}; items are enqueued to 'live' or 'bulk'")
        versions = yield from self._versions(collection)
        yield from self._measure_clock()
        outgoing = Outgoing(
            self._clock,
            Packer(collection, self.source),
            collection,
            lane,
            prefix=self._prefix,
            limit=self._limit,
            traceparent=sent.traceparent,
        )
        return Enqueueing(outgoing, self._clock, versions, on_invalid)

    def embed_query(
        self, collection: str, text: str, deadline: Deadline, *, fresh: bool
    ) -> Steps[QueryVector]:
        """The vector of a text, from the cache or a worker."""
        check_query(text)
        if not fresh and (found := self._cache.get(collection, text)) is not None:
            return found
        asked_at = time.monotonic()
        yield from self._versions(collection)
        yield from self._measure_clock()
        with sending(collection, queue_name(collection, "query")) as sent:
            vector = yield from ask(self._clock, collection, text, deadline, self._prefix, sent.traceparent)
        self._cache.put(collection, text, vector, asked_at)
        return vector

    def waiting(self, collection: str, lane: Lane) -> Steps[tuple[int, int]]:
        """Messages in a queue, and messages in hand of all queues, seen at one moment."""
        queue = Command(("LLEN", self._prefix + queue_name(collection, lane)))
        in_hand = Command(("HLEN", self._prefix + UNACKED_KEY))
        queued, held = yield Transaction((queue, in_hand))
        return int(queued), int(held)

    def _versions(self, collection: str) -> Steps[Versions | None]:
        """The collection's rule of versions; ``None`` where the registry is not asked."""
        if not isinstance(collection, str):
            raise ConfigurationError(f"the collection is a {type(collection).__name__}; give its name")
        if self._registry is not None:
            registered = yield from self._registry.find(collection)
            return registered.versions
        if not is_collection_name(collection):
            raise ConfigurationError(
                f"{collection[:60]!r} cannot name a collection: give 1 to 48 of a-z, 0-9, _, a letter first"
            )
        return None

    def _measure_clock(self) -> Steps[None]:
        if self._clock.stale:
            yield from self._clock.measure()


class ProducerBase(OutboxMethods):
    """The settings of a producer, which both kinds take.

    ``broker_url`` is by default that of ``EMBEDQ_BROKER_URL``, ``key_prefix`` that of ``EMBEDQ_KEY_PREFIX``
    (the workers' ``global_keyprefix``; default none). ``source`` names the service in every job. With
    ``check=False`` the registry of collections is not asked, so that items can be enqueued before any
    worker ran.

    ``max_queue_length``: messages that a queue may hold, however many producers push to it (default: any
    number). Too low, and workers run out of work between two looks; too high, and Redis' memory is the limit.
    At a full queue ``when_full="raise"`` raises ``QueueFull``; ``"block"`` waits for room, looking about once
    a second, for ``full_timeout`` seconds at a stretch (default: as long as it takes), and raises it then.

    ``query_cache_size``: vectors of ``embed_query`` to keep (default: none), each for ``query_cache_seconds``
    (default 30). Where a collection moves to another model, the old one's may be given for so long.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        source: str | None = None,
        check: bool = True,
        max_queue_length: int | None = None,
        when_full: WhenFull = "raise",
        full_timeout: float | None = None,
        key_prefix: str | None = None,
        query_cache_size: int = 0,
        query_cache_seconds: float = 30.0,
    ) -> None:
        url = broker_url or os.environ.get("EMBEDQ_BROKER_URL")
        if not url:
            raise ConfigurationError(
                "no broker URL: set EMBEDQ_BROKER_URL, or give one, such as redis://localhost:6379/0"
            )
        self._prefix = os.environ.get("EMBEDQ_KEY_PREFIX", "") if key_prefix is None else key_prefix
        self._address = Address(url)
        self.source = source
        limit = QueueLimit(max_queue_length, when_full, full_timeout)
        cache = QueryCache(query_cache_size, query_cache_seconds)
        self._core = ProducerCore(source, self._prefix, check=check, limit=limit, cache=cache)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address!r} source={self.source!r}>"


def check_ids(ids: object) -> None:
    """Refuse one string in place of several ids. Raises ``InvalidItem``."""
    if isinstance(ids, str | bytes):
        raise InvalidItem(None, "ids_type", "delete takes several ids; give a list, such as ['42']")


def deletes(ids: Iterable[str], version: int | None) -> Iterator[dict[str, Any]]:
    """The items that delete ids."""
    return (delete(each, version) for each in ids)


def delete(item_id: str, version: int | None) -> dict[str, Any]:
    """The item that deletes an id."""
    return {"id": item_id, "version": version, "deleted": True}
