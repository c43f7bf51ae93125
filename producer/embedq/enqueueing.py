"""One call of ``enqueue_many``: items are held against the rules, given their versions, and sent on."""

from __future__ import annotations

from embedq.clock import BrokerClock
from embedq.contract import Versions
from embedq.errors import BrokerUnavailable, InvalidItem, QueueFull
from embedq.items import OnInvalid, encode_item, read_item, settle_version
from embedq.outgoing import Outgoing
from embedq.steps import Steps


class Enqueueing:
    """Takes what the caller's iterable yields, one by one, and says when there is something to publish."""

    def __init__(
        self,
        outgoing: Outgoing,
        clock: BrokerClock,
        versions: Versions | None,
        on_invalid: OnInvalid | None,
    ) -> None:
        self._outgoing = outgoing
        self._clock = clock
        self._versions = versions
        self._on_invalid = on_invalid

    def take(self, value: object) -> bool:
        """Take one item; whether a group is full, and to be published before the next is read.

        Raises ``InvalidItem``, unless it is given to ``on_invalid``.
        """
        try:
            item = settle_version(read_item(value), self._versions, self._clock.next_version())
            return self._outgoing.add(item.id, encode_item(item))
        except InvalidItem as error:
            if self._on_invalid is None:
                raise
            self._on_invalid(error)
            return False

    def publish(self) -> Steps[None]:
        """Publish the full group."""
        return self._outgoing.publish()

    def finish(self) -> Steps[int]:
        """Publish what is left; the number of items enqueued."""
        return self._outgoing.finish()

    def fail(self, error: Exception) -> Steps[None]:
        """After an invalid item or an error of the iterable: publish what came before it. After an error of
        publishing nothing more is tried."""
        if self._outgoing.has_failed:
            return
        enqueued = yield from self.finish()
        if isinstance(error, InvalidItem | BrokerUnavailable | QueueFull):
            error.enqueued = enqueued
