"""The rules of a producer, which both kinds run: everything but the input and output."""

from __future__ import annotations

import time

from embedq.clock import BrokerClock
from embedq.contract import UNACKED_KEY, Lane, Versions, is_collection_name, queue_name
from embedq.enqueueing import Enqueueing
from embedq.errors import ConfigurationError
from embedq.items import OnInvalid
from embedq.outgoing import Outgoing
from embedq.packing import Packer
from embedq.query import Deadline, QueryVector, ask, check_query
from embedq.query_cache import QueryCache
from embedq.queue_limit import QueueLimit
from embedq.registry import Registry
from embedq.steps import Command, Steps, Transaction
from embedq.tracing import Sending, sending


class ProducerCore:
    """One producer's rules, and what it remembers: registry, clock, queries. Safe to share.

    ``clock`` gives its versions.
    """

    def __init__(
        self, source: str | None, prefix: str, *, check: bool, limit: QueueLimit, cache: QueryCache
    ) -> None:
        if source is not None and not (0 < len(source) <= 200 and source.isprintable()):
            raise ConfigurationError(
                f"source has {len(source)} characters; give 1 to 200 that can be printed"
            )
        self._source = source
        self._prefix = prefix
        self._registry = Registry(prefix) if check else None
        self.clock = BrokerClock()
        self._limit = limit
        self._cache = cache

    def begin(
        self, collection: str, lane: Lane, on_invalid: OnInvalid | None, sent: Sending
    ) -> Steps[Enqueueing]:
        """One call of ``enqueue_many``."""
        check_lane(lane)
        versions = yield from self._versions(collection)
        yield from self._measure_clock()
        outgoing = Outgoing(
            self.clock,
            Packer(collection, self._source),
            collection,
            lane,
            prefix=self._prefix,
            limit=self._limit,
            traceparent=sent.traceparent,
        )
        return Enqueueing(outgoing, self.clock, versions, on_invalid)

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
            vector = yield from ask(self.clock, collection, text, deadline, self._prefix, sent.traceparent)
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
        if self.clock.stale:
            yield from self.clock.measure()


def check_lane(lane: str) -> None:
    """Refuse what is no lane of items. Raises ``ConfigurationError``."""
    if lane not in ("live", "bulk"):
        raise ConfigurationError(f"lane is {lane!r}; items are enqueued to 'live' or 'bulk'")
