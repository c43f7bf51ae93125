"""Items that wait for the vectors of their parts, each told of once.

Most texts are embedded whole. Of one that is split, each part is asked for by itself, and the item goes on
when the last vector has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from embedq_worker.engine.work import RunningItem, Vector
from embedq_worker.errors import ABANDONED, ApiError, NotCalled
from embedq_worker.store.collection import Layout
from embedq_worker.store.rows import Part
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Spans


class Owner(Protocol):
    """Who waits for a collection's items."""

    @property
    def layout(self) -> Layout:
        """Whose vectors the items get."""

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""

    def came(self, item: RunningItem, parts: tuple[Part, ...]) -> None:
        """The last vector of an item has come."""

    def fail(self, item: RunningItem, error: ApiError) -> None:
        """A vector of an item will not come."""

    def make_smaller(self, part: WaitingPart, error: ApiError) -> bool:
        """Whether a part that the service refuses is asked for again, with less text."""

    def ask_again(self, parts: Sequence[WaitingPart]) -> None:
        """Ask for parts that were not called for."""

    def has_divided(self, whole: InParts, more: int) -> None:
        """So many parts more of an item are in hand."""

    def has_ended(self, whole: InParts) -> None:
        """They are in hand no more."""


class Whole:
    """An item whose text is its only part. Most are: it costs one object an item, and no more."""

    __slots__ = ("_item", "_owner")
    purpose: UsagePurpose = "documents"

    def __init__(self, owner: Owner, item: RunningItem) -> None:
        self._owner = owner
        self._item = item

    @property
    def is_gone(self) -> bool:
        """Whether it waits no more."""
        return self._owner.is_over or self._item.job.is_released

    @property
    def source(self) -> str | None:
        """The service that wants it."""
        return self._item.job.source

    @property
    def spans(self) -> Spans:
        """Of its message."""
        return self._item.job.spans

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        """Its vector has come."""
        item = self._item
        item.tokens = tokens
        item.attempts = attempts
        item.texts = 1
        item.cached = not attempts
        self._owner.came(item, (Part(item.text or "", vector),))

    def refused(self, error: ApiError, attempts: int) -> None:
        """It will not come."""
        self._item.attempts = attempts
        self._owner.fail(self._item, error)


class InParts:
    """An item whose text is or may be split, and how many of its parts' vectors are missing.

    While it is kept, parts that are not called for any more are put aside: they are asked for again as soon
    as another part's vector comes, which would be paid for in vain else.
    """

    __slots__ = ("_aside", "_is_kept", "_is_over", "_missing", "_owner", "item", "parts")

    def __init__(self, owner: Owner, item: RunningItem, text: str) -> None:
        self._owner = owner
        self.item = item
        self._missing = 1
        self._is_over = False
        """Whether its news was told."""
        self._is_kept = False
        self._aside: list[WaitingPart] = []
        self.parts = [WaitingPart(self, text, 0)]

    @property
    def is_gone(self) -> bool:
        """Whether it waits no more."""
        if self._is_over or self._owner.is_over:
            return True
        return self.item.job.is_released and not (self._is_kept and self._paid)

    @property
    def _paid(self) -> int:
        """Vectors that have come."""
        return len(self.parts) - self._missing

    def keep(self) -> None:
        """Have it go on when its job is released, unless that was before, and others may have it."""
        self._is_kept = not self.item.job.is_released

    def throw_away(self) -> int:
        """Let go of it if it was kept; the vectors that this throws away."""
        if not self._is_kept:
            return 0
        self._is_kept = False
        paid = self._paid
        if self._aside:
            self.refused(self._aside[0], ABANDONED, 0)
        return paid

    def divide(self, part: WaitingPart, texts: Sequence[str]) -> list[WaitingPart]:
        """Put parts with these texts in the place of one."""
        smaller = [WaitingPart(self, text, part.refusals) for text in texts]
        at = self.parts.index(part)
        self.parts[at : at + 1] = smaller
        self._missing += len(smaller) - 1
        if not self._is_over and len(self.parts) > 1:
            is_first = len(self.parts) == len(smaller)
            self._owner.has_divided(self, len(smaller) - (0 if is_first else 1))
        return smaller

    def embedded(self, tokens: int, attempts: int) -> None:
        """A part has its vector."""
        item = self.item
        item.tokens += tokens
        item.texts += 1
        item.cached += not attempts
        item.attempts = max(item.attempts, attempts)
        self._missing -= 1
        if not self._missing and not self._is_over:
            self._end()
            came = [Part(part.content, part.vector) for part in self.parts if part.vector is not None]
            self._owner.came(item, tuple(came))
        elif self._aside:
            again, self._aside = self._aside, []
            self._owner.ask_again(again)

    def refused(self, part: WaitingPart, error: ApiError, attempts: int) -> None:
        """A part will have no vector as it is; the others are not waited for any more."""
        if self._is_over or self._puts_aside(part, error) or self._owner.make_smaller(part, error):
            return
        self._end()
        self.item.attempts = max(self.item.attempts, attempts)
        came = ((each.asked, each.vector) for each in self.parts)
        self.item.remember(self._owner.layout.generation, came)
        self._owner.fail(self.item, error)

    def _puts_aside(self, part: WaitingPart, error: ApiError) -> bool:
        """Whether a part waits for the news of others, which are in flight."""
        if not (self._is_kept and isinstance(error, NotCalled)):
            return False
        self._aside.append(part)
        return len(self._aside) < self._missing

    def _end(self) -> None:
        self._is_over = True
        self._owner.has_ended(self)


class WaitingPart:
    """A part that waits for its vector."""

    __slots__ = ("_whole", "asked", "content", "refusals", "vector")
    purpose: UsagePurpose = "documents"

    def __init__(self, whole: InParts, content: str, refusals: int) -> None:
        self._whole = whole
        self.content = content
        self.asked = content
        """What of the content is embedded."""
        self.refusals = refusals
        """How often it was too long for the service, and what it was divided from."""
        self.vector: Vector | None = None
        """Once it has come."""

    @property
    def item(self) -> RunningItem:
        """Whose part it is."""
        return self._whole.item

    @property
    def is_gone(self) -> bool:
        """Whether it waits no more."""
        return self._whole.is_gone

    @property
    def source(self) -> str | None:
        """The service that wants it."""
        return self.item.job.source

    @property
    def spans(self) -> Spans:
        """Of its message."""
        return self.item.job.spans

    def cut(self, text: str) -> list[WaitingPart]:
        """Ask for the beginning of the content alone; the content is stored all the same."""
        self.asked = text
        self.item.truncated = text.strip() != self.content.strip()
        return [self]

    def divide(self, texts: Sequence[str]) -> list[WaitingPart]:
        """Let smaller parts take its place."""
        return self._whole.divide(self, texts)

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        """Its vector has come."""
        self.vector = vector
        self._whole.embedded(tokens, attempts)

    def refused(self, error: ApiError, attempts: int) -> None:
        """It will not come."""
        self._whole.refused(self, error, attempts)
