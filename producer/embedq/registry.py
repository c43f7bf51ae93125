"""What the producer knows of the collections: the registry that workers publish to Redis, cached."""

from __future__ import annotations

import time

import msgspec

from embedq.contract import REGISTRY_KEY, Registered
from embedq.errors import NoRegistry, RegistryError, UnknownCollection
from embedq.steps import Command, Steps

FRESH_SECONDS = 30.0
"""How long an answer is believed, and a dropped collection may still be enqueued to."""
_PUBLISHED = b""
_decode = msgspec.json.Decoder(Registered).decode


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

        Raises ``RegistryError``, as ``UnknownCollection`` and ``NoRegistry`` too, and ``BrokerUnavailable``.
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
        if not answer:
            raise NoRegistry
        answer.pop(_PUBLISHED, None)
        try:
            known = {name.decode(): _decode(entry) for name, entry in answer.items()}
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RegistryError(
                f"the registry of collections under {self._key!r} in Redis cannot be read: run "
                "`embedq collection list`, which publishes it anew, or upgrade embedq to the workers' version"
            ) from None
        self._known, self._read_at = known, time.monotonic()
        return known
