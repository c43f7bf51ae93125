"""The stream of one ``enqueue`` call: items packed into messages, published in groups, in bounded memory."""

from __future__ import annotations

from embedq.broker import Broker
from embedq.clock import BrokerClock
from embedq.contract import Lane, queue_name
from embedq.errors import BrokerUnavailable, QueueFull
from embedq.messages import Message, job_message
from embedq.packing import PackedJob, Packer

GROUP_MESSAGES = 64
"""Messages published in one round trip."""
GROUP_BYTES = 4 << 20
"""Bytes at which a group is published before it is full."""


class Outgoing:
    """Takes encoded items of one collection and lane; ``enqueued`` counts those that Redis confirmed.

    Items are published in the order they came, so ``enqueued`` always means the first ones. With
    ``max_length`` no message is published to a queue that holds so many.
    """

    def __init__(
        self,
        broker: Broker,
        clock: BrokerClock,
        packer: Packer,
        collection: str,
        lane: Lane,
        max_length: int | None,
        traceparent: str | None = None,
    ) -> None:
        self.enqueued = 0
        self._broker = broker
        self._clock = clock
        self._packer = packer
        self._collection = collection
        self._queue = queue_name(collection, lane)
        self._max_length = max_length
        self._traceparent = traceparent
        self._group: list[Message] = []
        self._bytes = 0

    def add(self, item_id: str, encoded: bytes) -> None:
        """Take one item; publishes when a group is full."""
        full = self._packer.add(item_id, encoded)
        if full is not None:
            self._collect(full)
            if len(self._group) >= GROUP_MESSAGES or self._bytes >= GROUP_BYTES:
                self._publish()

    def finish(self) -> int:
        """Publish everything that waits; the number of items enqueued by this stream."""
        rest = self._packer.rest()
        if rest is not None:
            self._collect(rest)
        self._publish()
        return self.enqueued

    def _collect(self, job: PackedJob) -> None:
        now = self._clock.now() / 1e6
        message = job_message(self._collection, self._queue, job.body, job.items, now, self._traceparent)
        self._group.append(message)
        self._bytes += len(message.payload)

    def _publish(self) -> None:
        group, self._group, self._bytes = self._group, [], 0
        try:
            while group:
                room = self._room()
                self._broker.publish(group[:room])
                self.enqueued += sum(message.items for message in group[:room])
                group = group[room:]
        except (BrokerUnavailable, QueueFull) as error:
            error.enqueued = self.enqueued
            raise

    def _room(self) -> int:
        """How many messages the queue may take now. Raises ``QueueFull`` at none."""
        if self._max_length is None:
            return GROUP_MESSAGES
        length = self._broker.queue_length(self._queue)
        if length >= self._max_length:
            raise QueueFull(self._queue, length, self._max_length)
        return self._max_length - length
