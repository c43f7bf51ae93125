"""What the producer knows of the collections: the registry that workers publish to Redis, cached."""

from __future__ import annotations

import time

import msgspec

from embedq.broker import Broker
from embedq.contract import REGISTRY_KEY, Registered
from embedq.errors import NoRegistry, UnknownCollection

FRESH_SECONDS = 30.0
"""How long an answer is believed, and a dropped collection may still be enqueued to."""
_PUBLISHED = ""


class Registry:
    """The registered collections by name; read again after ``FRESH_SECONDS``, and at once on a miss.

    Safe to share between threads: they may read at the same time, and each replaces the whole.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._known: dict[str, Registered] = {}
        self._read_at = -FRESH_SECONDS

    def find(self, collection: str) -> Registered:
        """What is registered of ``collection``.

        Raises ``UnknownCollection``, ``NoRegistry`` and ``BrokerUnavailable``.
        """
        found = self._known.get(collection)
        if found is not None and time.monotonic() - self._read_at < FRESH_SECONDS:
            return found
        known = self._read()
        if collection not in known:
            raise UnknownCollection(collection, known)
        return known[collection]

    def _read(self) -> dict[str, Registered]:
        fields = {name.decode(): value for name, value in self._broker.hash(REGISTRY_KEY).items()}
        if not fields:
            raise NoRegistry
        fields.pop(_PUBLISHED, None)
        known = {name: msgspec.json.decode(value, type=Registered) for name, value in fields.items()}
        self._known, self._read_at = known, time.monotonic()
        return known
