"""Producers that record what is enqueued instead of sending it: the same rules and errors, and no server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from embedq.async_producer import AsyncProducer
from embedq.base import ProducerBase
from embedq.contract import Item, Lane, Query, Registered
from embedq.producer import Producer
from embedq.testing.memory import AsyncMemoryBroker, Memory, MemoryBroker, Recorded

_URL = "redis://memory"


class Recording(ProducerBase):
    """What a producer recorded. ``memory.is_away`` lets every call fail as if Redis were away.

    It knows ``collections``, whose versions the clock gives, and those of ``given``, which take the caller's;
    every other one is unknown. Further settings are a producer's; ``key_prefix`` changes nothing.
    ``embed_query`` answers ``embedq.testing.vector_of(text, dimensions)``, which needs ``embedq[testing]``.
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
        found = [item for item in self.items(collection) if item.id == item_id]
        if not found:
            ids = ", ".join(sorted({repr(item.id) for item in self.items(collection)})) or "none"
            raise AssertionError(f"no item {item_id!r} was enqueued to {collection}; enqueued: {ids}")
        return max(found, key=lambda item: item.version or 0)

    def texts(self, collection: str) -> dict[str, str]:
        """The text of each id, as it would be stored: the newest, and none of what was deleted."""
        newest = (self.item(collection, item_id) for item_id in {item.id for item in self.items(collection)})
        return {item.id: item.text for item in newest if item.text is not None}

    def forget(self) -> None:
        """Forget everything recorded; queues that were full have room again."""
        self.memory.recorded.clear()
        self.memory.queries.clear()
        self.memory.messages.clear()


class MemoryProducer(Recording, Producer):
    """A ``Producer`` that records; ``Recording`` explains the settings.

    ``enqueue_in`` and its like write to the caller's database, as every producer's do.
    """

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
