"""Producers that record what is enqueued instead of sending it: the same rules and errors, and no server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from embedq.async_producer import AsyncProducer
from embedq.base import ProducerBase
from embedq.contract import Item, Lane, Query, Registered
from embedq.producer import Producer
from embedq.testing.memory import AsyncMemoryBroker, Memory, MemoryBroker, Recorded
from embedq.testing.memory_outbox import MemoryOutbox

_URL = "redis://memory"


class Recording(ProducerBase):
    """What a producer recorded. ``memory.is_away`` lets every call fail as if Redis were away.

    It knows ``collections``, whose versions the clock gives, and those of ``given``, which take the caller's;
    every other one is unknown. Further settings are a producer's; ``key_prefix`` changes nothing.
    ``embed_query`` answers ``embedq.testing.vector_of(text, dimensions)``, which needs ``embedq[testing]``.

    What ``enqueue_in`` and its like are given is recorded, too, at once: the connection is not used, and its
    commit or rollback not seen.
    """

    def __init__(
        self,
        collections: Iterable[str],
        *,
        given: Iterable[str] = (),
        dimensions: int = 1536,
        **settings: Any,
    ) -> None:
        super().__init__(_URL, **{**settings, "key_prefix": ""})
        self.memory = _memory(collections, given, dimensions)
        MemoryBroker(self.memory).run(self._core.clock.measure())
        self._outbox = MemoryOutbox(self.memory, self._core.clock)

    @property
    def recorded(self) -> list[Recorded]:
        """Every item, in the order in which it was enqueued."""
        return self.memory.recorded

    @property
    def queries(self) -> list[Query]:
        """Every text that a vector was asked of."""
        return self.memory.queries

    def items(self, collection: str, lane: Lane | None = None) -> list[Item]:
        """The items of a collection, or of one of its lanes."""
        return [
            each.item for each in self.recorded if each.collection == collection and lane in (None, each.lane)
        ]

    def item(self, collection: str, item_id: str) -> Item:
        """The newest item of an id, by its version. Raises ``AssertionError`` where there is none."""
        newest = self._newest(collection)
        if item_id not in newest:
            ids = ", ".join(map(repr, sorted(newest))) or "none"
            raise AssertionError(f"no item {item_id!r} was enqueued to {collection}; enqueued: {ids}")
        return newest[item_id]

    def texts(self, collection: str) -> dict[str, str]:
        """The text of each id, as it would be stored: the newest, and none of what was deleted."""
        newest = self._newest(collection).values()
        return {item.id: item.text for item in newest if item.text is not None}

    def forget(self) -> None:
        """Forget everything recorded; queues that were full have room again."""
        self.memory.recorded.clear()
        self.memory.queries.clear()
        self.memory.messages.clear()

    def _by(self, connection: object) -> object:
        return self._outbox.connection(connection)

    def _newest(self, collection: str) -> dict[str, Item]:
        newest: dict[str, Item] = {}
        for item in self.items(collection):
            other = newest.setdefault(item.id, item)
            if (item.version or 0) > (other.version or 0):
                newest[item.id] = item
        return newest


class MemoryProducer(Recording, Producer):
    """A ``Producer`` that records; ``Recording`` explains the settings."""

    def __init__(self, collections: Iterable[str], **settings: Any) -> None:
        super().__init__(collections, **settings)
        self._broker = MemoryBroker(self.memory)


class AsyncMemoryProducer(Recording, AsyncProducer):
    """The same for asyncio: an ``AsyncProducer`` that records."""

    def __init__(self, collections: Iterable[str], **settings: Any) -> None:
        super().__init__(collections, **settings)
        self._broker = AsyncMemoryBroker(self.memory)


def _memory(collections: Iterable[str], given: Iterable[str], dimensions: int) -> Memory:
    def vector(query: Query) -> Iterable[float]:
        from embedq.testing import vector_of

        return vector_of(query.text, dimensions)

    clock = {name: Registered("test", dimensions, "clock") for name in collections}
    registry = clock | {name: Registered("test", dimensions, "given") for name in given}
    return Memory(registry, vector)
