"""The stream of one ``enqueue`` call: items packed into messages, published in groups, in bounded memory."""

from __future__ import annotations

from embedq.clock import BrokerClock
from embedq.contract import Lane, queue_name
from embedq.errors import BrokerUnavailable, QueueFull
from embedq.messages import Message, job_message
from embedq.packing import PackedJob, Packer
from embedq.publishing import publish
from embedq.queue_limit import QueueLimit
from embedq.steps import Steps

GROUP_MESSAGES = 64
"""Messages published in one round trip."""
GROUP_BYTES = 4 << 20
"""Bytes at which a group is published before it is full."""


class Outgoing:
    """Takes encoded items of one collection and lane; ``enqueued`` counts those that Redis confirmed.

    Items are published in the order they came, so ``enqueued`` always means the first ones. Once a group
    ``has_failed`` nothing after it may be published.
    """

    def __init__(
        self,
        clock: BrokerClock,
        packer: Packer,
        collection: str,
        lane: Lane,
        *,
        prefix: str = "",
        limit: QueueLimit | None = None,
        traceparent: str | None = None,
    ) -> None:
        self.enqueued = 0
        self.has_failed = False
        self._clock = clock
        self._packer = packer
        self._collection = collection
        self._queue = queue_name(collection, lane)
        self._prefix = prefix
        self._limit = limit or QueueLimit()
        self._traceparent = traceparent
        self._group: list[Message] = []
        self._bytes = 0

    def add(self, item_id: str, encoded: bytes) -> bool:
        """Take one item; whether a group is full, and to be published now."""
        full = self._packer.add(item_id, encoded)
        if full is None:
            return False
        self._collect(full)
        return len(self._group) >= GROUP_MESSAGES or self._bytes >= GROUP_BYTES

    def finish(self) -> Steps[int]:
        """Publish everything that waits; the number of items enqueued by this stream."""
        rest = self._packer.rest()
        if rest is not None:
            self._collect(rest)
        yield from self.publish()
        return self.enqueued

    def publish(self) -> Steps[None]:
        """Publish the group. Raises ``QueueFull`` and ``BrokerUnavailable``, with what is ``enqueued``."""
        group, self._group, self._bytes = self._group, [], 0
        try:
            yield from self._publish(group)
        except (BrokerUnavailable, QueueFull) as error:
            self.has_failed = True
            error.enqueued = self.enqueued
            raise

    def _publish(self, group: list[Message]) -> Steps[None]:
        room = len(group)
        while group:
            published, length = yield from publish(group[:room], self._prefix, self._limit.messages)
            self.enqueued += sum(message.items for message in group[:published])
            group = group[published:]
            if group:
                room = yield from self._limit.room(self._queue, self._prefix, length)

    def _collect(self, job: PackedJob) -> None:
        now = self._clock.now() / 1e6
        message = job_message(self._collection, self._queue, job.body, job.items, now, self._traceparent)
        self._group.append(message)
        self._bytes += len(message.payload)
