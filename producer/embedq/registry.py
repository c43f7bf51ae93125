"""What the producer knows of the collections: the registry that workers publish to Redis, cached."""

from __future__ import annotations

import time

import msgspec

from embedq.contract import REGISTRY_KEY, Registered
from embedq.errors import NoRegistry, UnknownCollection
from embedq.steps import Command, Steps

FRESH_SECONDS = 30.0
"""How long an answer is believed, and a dropped collection may still be enqueued to."""
_PUBLISHED = ""


class Registry:
    """The registered collections by name; read again after ``FRESH_SECONDS``, and at once on a miss.

    Safe to share between threads and tasks: they may read at the same time, and each replaces the whole.
    """

    def __init__(self, prefix: str = "") -> None:
        self._key = prefix + REGISTRY_KEY
        self._known: dict[str, Registered] = {}
        self._read_at = -FRESH_SECONDS

    def find(self, collection: str) -> Steps[Registered]:
        """What is registered of ``collection``.

        Raises ``UnknownCollection``, ``NoRegistry`` and ``BrokerUnavailable``.
        """
        found = self._known.get(collection)
        if found is not None and time.monotonic() - self._read_at < FRESH_SECONDS:
            return found
        known = yield from self._read()
        if collection not in known:
            raise UnknownCollection(collection, known)
        return known[collection]

    def _read(self) -> Steps[dict[str, Registered]]:
        answer: dict[bytes, bytes] = yield Command(("HGETALL", self._key))
        fields = {name.decode(): value for name, value in answer.items()}
        if not fields:
            raise NoRegistry
        fields.pop(_PUBLISHED, None)
        known = {name: msgspec.json.decode(value, type=Registered) for name, value in fields.items()}
        self._known, self._read_at = known, time.monotonic()
        return known
