"""Jobs and items while they are in the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedq.contract import Lane
from embedq_worker.engine.summary import Finish, Summary, died_of
from embedq_worker.logs import get_logger
from embedq_worker.store.collection import Layout
from embedq_worker.store.rows import Part
from embedq_worker.tracing import Spans

logger = get_logger(__name__)

Vector = NDArray[np.float32]
"""One vector, shape (dimensions,)."""


class Outcome(StrEnum):
    """What became of an item."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    """Its text was stored already: only its version moved."""
    DELETED = "deleted"
    SUPERSEDED = "superseded"
    """A newer version of its id was stored before it."""
    DEAD = "dead"
    WITHDRAWN = "withdrawn"
    """Its job was released before it was called for, or its collection is not served here any more: its
    message goes back to its queue."""


@dataclass(slots=True)
class Hold:
    """What jobs that were taken in the same time have in common: whether they were released since."""

    is_released: bool = False


class RunningJob:
    """A job in the engine; calls ``finish`` with the summary when its last item is settled."""

    __slots__ = (
        "_finish",
        "_hold",
        "_remaining",
        "_summary",
        "is_from_outbox",
        "lane",
        "source",
        "spans",
        "started",
    )

    def __init__(
        self,
        items: int,
        *,
        lane: Lane,
        source: str | None,
        finish: Finish,
        hold: Hold | None = None,
        spans: Spans = (),
        is_from_outbox: bool = False,
    ) -> None:
        self.lane = lane
        self.is_from_outbox = is_from_outbox
        """Whether its items have rows in the outbox, which go with what becomes of them."""
        self.spans = spans
        """Of its message, if that is traced."""
        self.source = source
        self._hold = hold or Hold()
        self.started = monotonic()
        self._finish = finish
        self._remaining = items
        self._summary: Summary = {"items": items}

    @property
    def is_released(self) -> bool:
        """Whether those of its items that wait are to be withdrawn."""
        return self._hold.is_released

    def settle(self, outcome: Outcome, reason: str | None = None) -> None:
        """One item is done; ``reason`` is a dead letter's."""
        summary = self._summary
        summary[outcome] = summary.get(outcome, 0) + 1
        if reason is not None:
            died_of(summary, reason)
        self._remaining -= 1
        if not self._remaining:
            summary["milliseconds"] = round((monotonic() - self.started) * 1000)
            self._finish(summary)

    def count(self, item: RunningItem) -> None:
        """Add what an item took, before it is settled."""
        summary = self._summary
        summary["texts"] = summary.get("texts", 0) + item.texts
        if item.tokens:
            summary["tokens"] = summary.get("tokens", 0) + item.tokens
        if item.cached:
            summary["cached"] = summary.get("cached", 0) + item.cached
        if item.attempts > 1:
            summary["retries"] = summary.get("retries", 0) + item.attempts - 1


_NOTHING: Mapping[tuple[int, str], Vector] = {}
"""One for all: nearly every item has none."""


class RunningItem:
    """An item in the engine: what the message said, and its parts once they have their vectors."""

    __slots__ = (
        "_afterwards",
        "_settled",
        "attempts",
        "cached",
        "content_hash",
        "id",
        "job",
        "known",
        "layout",
        "metadata",
        "parts",
        "text",
        "texts",
        "tokens",
        "truncated",
        "version",
    )

    def __init__(
        self, job: RunningJob, item_id: str, version: int, text: str | None, metadata: dict[str, Any] | None
    ) -> None:
        self.job = job
        self.id = item_id
        self.version = version
        self.text = text
        self.metadata = metadata
        self.content_hash = content_hash(text)
        self.parts: tuple[Part, ...] = ()
        self.layout: Layout | None = None
        """Whose vectors its parts have."""
        self.known: Mapping[tuple[int, str], Vector] = _NOTHING
        """Vectors by generation and text that came before its collection moved: not to be asked for again."""
        self.truncated = False
        self.texts = 0
        """Texts whose vectors have come: one, or its parts."""
        self.cached = 0
        """Those of them that nobody called for."""
        self.tokens = 0
        self.attempts = 0
        self._settled = False
        self._afterwards: tuple[Callable[[], None], ...] = ()

    def when_settled(self, news: Callable[[], None]) -> None:
        """Call ``news`` once the item is settled; at once where it is."""
        if self._settled:
            news()
        else:
            self._afterwards += (news,)

    def remember(self, generation: int, vectors: Iterable[tuple[str, Vector | None]]) -> None:
        """Vectors of texts that came, though the item does not go on: they are not asked for again."""
        came = {(generation, text): vector for text, vector in vectors if vector is not None}
        if came:
            self.known = {**self.known, **came}

    @property
    def order(self) -> tuple[int, bytes]:
        """What orders the writes of one id: the version, then the content hash."""
        return self.version, self.content_hash

    def settle(self, outcome: Outcome, reason: str | None = None) -> None:
        """The item is done; ``reason`` is a dead letter's.

        Only the first time counts: a second would end its job before its last item.
        """
        if self._settled:
            sentence = "an item was settled again, as {outcome}; that is a defect of embedq"
            logger.error("settled_again", sentence, outcome=outcome)
            return
        self._settled = True
        for news in self._afterwards:
            news()
        if self.attempts or self.texts:
            self.job.count(self)
        self.job.settle(outcome, reason)


def rearrange(item: RunningItem, layout: Layout) -> bool:
    """Give an item's vectors to the columns of another layout; a vector of a model that has none is dropped.

    False where the collection's own model has not given them all: the item remembers the others then.
    """
    if item.layout == layout:
        return True
    arranged = [_rearranged(part, item.layout, layout) for part in item.parts]
    parts = [part for part in arranged if part is not None]
    if not parts or len(parts) < len(arranged):
        for part in item.parts:
            for generation, vector in _by_generation(part, item.layout).items():
                if generation in layout:
                    item.remember(generation, [(part.content, vector)])
        return False
    item.parts, item.layout = tuple(parts), layout
    return True


def _rearranged(part: Part, before: Layout | None, now: Layout) -> Part | None:
    vectors = _by_generation(part, before)
    vector = vectors.get(now.generation)
    shadow = None if now.shadow is None else vectors.get(now.shadow)
    return None if vector is None else Part(part.content, vector, shadow)


def _by_generation(part: Part, layout: Layout | None) -> dict[int, Vector]:
    if layout is None:
        return {}
    pairs = [(layout.generation, part.vector), (layout.shadow, part.shadow)]
    return {
        generation: vector for generation, vector in pairs if generation is not None and vector is not None
    }


def content_hash(text: str | None) -> bytes:
    """SHA-256 of the text's UTF-8, 32 bytes.

    Empty for a delete, so that a text of the same version wins over it.
    """
    return b"" if text is None else hashlib.sha256(text.encode()).digest()
