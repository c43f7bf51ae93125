"""Items that wait for the vectors of their parts.

A part is asked for like any other text: it shares requests, and equal texts are asked for once. An item goes
on when its last vector has come, and dies as a whole where the service refuses one of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from embedq_worker.engine.texts import Asker, Shape
from embedq_worker.engine.work import RunningItem, Vector, content_hash
from embedq_worker.errors import ApiError
from embedq_worker.limiter import Flow
from embedq_worker.store.collection import Collection
from embedq_worker.store.rows import Part


class Embeddings:
    """Gets the items of one collection the vectors of their parts.

    ``embedded(item)`` is called when all have come and the item has its parts, ``refused(item, error)`` when
    one will not come; ``NotCalled`` then means that nobody waits any more. Each item is told of once.
    """

    def __init__(
        self,
        collection: Collection,
        asker: Asker,
        *,
        embedded: Callable[[RunningItem], None],
        refused: Callable[[RunningItem, ApiError], None],
    ) -> None:
        self._collection = collection
        self._asker = asker
        self._shape = Shape(collection.dimensions, "document")
        self._embedded = embedded
        self._refused = refused
        self.waiting = 0
        """Items whose vectors are waited for."""
        self.is_over = False
        """Whether the collection was dropped."""

    def let_go(self) -> None:
        """The collection was dropped: nobody waits any more."""
        self.is_over = True

    def ask(self, item: RunningItem) -> None:
        """Have an item's text embedded."""
        assert item.text is not None
        self.waiting += 1
        flow = Flow(item.job.lane, self._collection.name)
        self._asker.ask(item.content_hash, item.text, self._shape, flow, _Whole(self, item))

    def ask_for_parts(self, item: RunningItem, texts: Sequence[str]) -> None:
        """Have an item embedded in parts, in the text's order."""
        self.waiting += 1
        flow = Flow(item.job.lane, self._collection.name)
        for part in _InParts(self, item, texts).parts:
            self._asker.ask(content_hash(part.text), part.text, self._shape, flow, part)

    def came(self, item: RunningItem, parts: tuple[Part, ...]) -> None:
        """The last vector of an item has come."""
        self.waiting -= 1
        item.parts = parts
        self._embedded(item)

    def fail(self, item: RunningItem, error: ApiError) -> None:
        """A vector of an item will not come."""
        self.waiting -= 1
        self._refused(item, error)


class _Whole:
    """An item whose text is its only part. Most are: it costs one object an item, and no more."""

    __slots__ = ("_embeddings", "_item")

    def __init__(self, embeddings: Embeddings, item: RunningItem) -> None:
        self._embeddings = embeddings
        self._item = item

    @property
    def is_gone(self) -> bool:
        return self._embeddings.is_over or self._item.job.is_released

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        item = self._item
        item.tokens = tokens
        item.attempts = attempts
        self._embeddings.came(item, (Part(item.text or "", vector),))

    def refused(self, error: ApiError, attempts: int) -> None:
        self._item.attempts = attempts
        self._embeddings.fail(self._item, error)


class _InParts:
    """An item in several parts, and how many of their vectors are missing."""

    __slots__ = ("_embeddings", "_is_over", "_item", "_missing", "parts")

    def __init__(self, embeddings: Embeddings, item: RunningItem, texts: Sequence[str]) -> None:
        self._embeddings = embeddings
        self._item = item
        self._missing = len(texts)
        self._is_over = False
        """Whether its news was told."""
        self.parts = [_WaitingPart(self, text) for text in texts]

    @property
    def is_gone(self) -> bool:
        return self._is_over or self._embeddings.is_over or self._item.job.is_released

    def embedded(self, tokens: int, attempts: int) -> None:
        """A part has its vector."""
        item = self._item
        item.tokens += tokens
        item.attempts = max(item.attempts, attempts)
        self._missing -= 1
        if not self._missing and not self._is_over:
            self._is_over = True
            self._embeddings.came(item, tuple(Part(part.text, part.vector) for part in self.parts))

    def refused(self, error: ApiError, attempts: int) -> None:
        """A part will have none; the others are not waited for any more."""
        if not self._is_over:
            self._is_over = True
            self._item.attempts = max(self._item.attempts, attempts)
            self._embeddings.fail(self._item, error)


class _WaitingPart:
    """A part that waits for its vector."""

    __slots__ = ("_whole", "text", "vector")

    def __init__(self, whole: _InParts, text: str) -> None:
        self._whole = whole
        self.text = text
        self.vector: Vector
        """Once it has come."""

    @property
    def is_gone(self) -> bool:
        return self._whole.is_gone

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        self.vector = vector
        self._whole.embedded(tokens, attempts)

    def refused(self, error: ApiError, attempts: int) -> None:
        self._whole.refused(error, attempts)
