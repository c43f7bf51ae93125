"""Shadowing: items of a collection that moves from one model to another get both models' vectors.

Both are asked at the same time. The collection's own model decides what becomes of an item; the other one is
given a moment longer, or as long as it takes of late, and no more. What it says later is stored by itself,
and what it never says is left to the fill: it never holds up an item for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic

from embedq_worker.catalogue.model import count_characters
from embedq_worker.engine.moving.models import ShadowModel
from embedq_worker.engine.moving.patience import Patience
from embedq_worker.engine.texts import Shape
from embedq_worker.engine.work import RunningItem, Vector
from embedq_worker.errors import ApiError
from embedq_worker.limiter import Flow
from embedq_worker.store.rows import Filled, Part
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Spans

Done = Callable[[tuple[Part, ...]], None]


class Shadowing:
    """Of one collection and one other model. ``late`` is given what comes after its item went on."""

    def __init__(self, collection: str, shadow: ShadowModel, late: Callable[[int, Filled], None]) -> None:
        self.shadow = shadow
        self._collection = collection
        self._shape = Shape(shadow.dimensions, "document")
        self._late = late
        self._expected: dict[RunningItem, _Expected] = {}
        self.patience = Patience()

    def expect(self, item: RunningItem, key: bytes, text: str) -> None:
        """Ask for the vector of one of an item's parts; nobody, where the model is paused or takes no such
        text. ``key`` is the text's content hash."""
        expected = self._expected.get(item)
        if expected is None:
            expected = self._expected[item] = _Expected(self, item)
        part = expected.parts[text] = _ExpectedPart(expected, key)
        known = item.known.get((self.shadow.generation, text))
        if known is not None:
            part.vector, part.is_told = known, True
        elif self.shadow.is_paused() or self._is_too_long(text):
            part.is_told = True
        else:
            flow = Flow(item.job.lane, self._collection)
            self.shadow.asker.ask(key, text, self._shape, flow, part)

    def join(self, item: RunningItem, own: tuple[Part, ...], done: Done) -> None:
        """The item's own vectors have come: call ``done`` with both, or with what there is in a moment."""
        expected = self._expected[item]
        expected.own, expected.done, expected.joined = own, done, monotonic()
        if not expected.is_missing:
            self.finish(item)
        else:
            expected.timer = asyncio.get_running_loop().call_later(self.patience.seconds, self.finish, item)

    def forget(self, item: RunningItem) -> None:
        """The item does not go on; should it come back, it knows the vectors that came."""
        expected = self._expected.pop(item, None)
        if expected is not None:
            expected.is_over = True
            came = ((text, part.vector) for text, part in expected.parts.items())
            item.remember(self.shadow.generation, came)

    def hurry(self) -> None:
        """Wait for nothing more."""
        for item, expected in list(self._expected.items()):
            if expected.done is not None:
                self.finish(item)

    def finish(self, item: RunningItem) -> None:
        """The item goes on with what there is."""
        expected = self._expected.pop(item, None)
        if expected is None or expected.done is None:
            return
        expected.is_over = True
        if expected.timer is not None:
            expected.timer.cancel()
        expected.done(
            tuple(Part(own.content, own.vector, expected.parts[own.content].vector) for own in expected.own)
        )

    def came_late(self, item: RunningItem, filled: Filled) -> None:
        """The item has gone on, and its row is stored without it, or will be in a moment."""
        item.when_settled(partial(self._late, self.shadow.generation, filled))

    def _is_too_long(self, text: str) -> bool:
        most = self.shadow.model.max_chars_alone
        return most is not None and count_characters(text) > most


class _Expected:
    """What an item waits for, by text: parts that were divided since are among them."""

    __slots__ = ("done", "is_over", "item", "joined", "own", "parts", "shadowing", "timer")

    def __init__(self, shadowing: Shadowing, item: RunningItem) -> None:
        self.shadowing = shadowing
        self.item = item
        self.parts: dict[str, _ExpectedPart] = {}
        self.own: tuple[Part, ...] = ()
        self.done: Done | None = None
        """Set when its own vectors have come."""
        self.joined: float | None = None
        """When that was, by the monotonic clock."""
        self.timer: asyncio.TimerHandle | None = None
        self.is_over = False

    @property
    def is_missing(self) -> bool:
        """Whether the model has yet to say something about a part that the item has."""
        return not all(self.parts[part.content].is_told for part in self.own)

    def was_told(self) -> None:
        """The model has said all that it says about a part."""
        if self.done is not None and not self.is_missing:
            self.shadowing.finish(self.item)

    def came_late(self, part: _ExpectedPart, vector: Vector) -> None:
        """For the rows that were stored without it."""
        for chunk, own in enumerate(self.own):
            if self.parts[own.content] is part:
                self.shadowing.came_late(self.item, Filled(self.item.id, chunk, part.key, vector))

    def note_delay(self) -> None:
        """The model has given a vector."""
        self.shadowing.patience.learn(0.0 if self.joined is None else monotonic() - self.joined)


class _ExpectedPart:
    """A part that waits for the other model's vector."""

    __slots__ = ("_expected", "is_told", "key", "vector")
    purpose: UsagePurpose = "fill"
    """What a move costs: the vectors of rows that there were, and of those that are written meanwhile."""

    def __init__(self, expected: _Expected, key: bytes) -> None:
        self._expected = expected
        self.key = key
        self.vector: Vector | None = None
        self.is_told = False

    @property
    def is_gone(self) -> bool:
        return self._expected.is_over or self._expected.item.job.is_released

    @property
    def source(self) -> str | None:
        return self._expected.item.job.source

    @property
    def spans(self) -> Spans:
        return self._expected.item.job.spans

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        self._expected.note_delay()
        if self._expected.is_over:
            self._expected.came_late(self, vector)
            return
        self.vector, self.is_told = vector, True
        self._expected.was_told()

    def refused(self, error: ApiError, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        self.is_told = True
        if not self._expected.is_over:
            self._expected.was_told()
