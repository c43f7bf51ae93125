"""Items that wait for the vectors of their parts.

A part is asked for like any other text: it shares requests, and equal texts are asked for once. An item goes
on when its last vector has come, and dies as a whole where the service refuses one of its parts. Long texts
are split in a thread first, one after the other, and only while few parts are in hand: a message of some
kilobytes can mean thousands of vectors. Where the service calls a part too long all the same, it is made
smaller a few times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from embedq_worker.engine.shadowing import Shadowing
from embedq_worker.engine.splitter import MOST_TRIES, Splitter
from embedq_worker.engine.splitting import THREAD
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.texts import Asker, Shape, Waiter
from embedq_worker.engine.work import RunningItem, Vector, content_hash
from embedq_worker.errors import ApiError, BadInput, NotCalled
from embedq_worker.limiter import Flow
from embedq_worker.logs import failure, get_logger
from embedq_worker.store.collection import Collection
from embedq_worker.store.rows import Part
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Spans

logger = get_logger(__name__)

MOST_PARTS = 8_192
"""Parts in hand of one collection from which on no other text is split: 50 MB of vectors of 1,536 dimensions.
Too few leave requests unfilled, too many fill the memory."""
_ASK_PARTS = 100
"""Parts that are asked for in one go."""
_ABANDONED = NotCalled("abandoned", "nobody waits for it any more")


class Embeddings:
    """Gets the items of one collection the vectors of their parts.

    ``embedded(item)`` is called when all have come and the item has its parts, ``refused(item, error)`` when
    one will not come; ``NotCalled`` then means that nobody waits any more. Each item is told of once. Without
    a ``splitter`` every text is its only part.
    """

    def __init__(
        self,
        collection: Collection,
        asker: Asker,
        splitter: Splitter | None,
        *,
        embedded: Callable[[RunningItem], None],
        refused: Callable[[RunningItem, ApiError], None],
        shadowing: Shadowing | None = None,
    ) -> None:
        self.layout = collection.layout
        """Whose vectors the items get."""
        self._shadowing = shadowing
        self._collection = collection
        self._asker = asker
        self._splitter = splitter
        self._shape = Shape(collection.dimensions, "document")
        self._embedded = embedded
        self._refused = refused
        self._cuts = collection.on_too_long == "truncate"
        self._long: deque[_WaitingPart] = deque()
        self._divided: set[_InParts] = set()
        """Items whose texts were split."""
        self._in_hand = 0
        """Parts of these."""
        self._changed = asyncio.Event()
        self.waiting = 0
        """Items whose vectors are waited for."""
        self.is_over = False
        """Whether nobody waits any more."""

    async def run(self) -> None:
        """Split long texts for ever, where they are split at all."""
        if self._splitter is None:
            return
        step = partial(self._split_next, self._splitter)
        try:
            await steadily(step, f"splitting texts of collection {self._collection.name}")
        finally:
            self._splitter.stop()

    def let_go(self) -> None:
        """The collection was dropped, or has moved to another model: nobody waits any more."""
        self.is_over = True
        self._changed.set()

    def hurry(self) -> None:
        """Wait no more for what is not needed."""
        if self._shadowing is not None:
            self._shadowing.hurry()

    def ask(self, item: RunningItem) -> None:
        """Have an item's text embedded, whole or in parts."""
        assert item.text is not None
        self.waiting += 1
        if self._splitter is None:
            self._ask(item, item.content_hash, item.text, _Whole(self, item))
            return
        whole = _InParts(self, item, item.text).parts
        if self._splitter.fits(item.text):
            self._ask_for(whole)
        else:
            self._split(whole[0])

    def came(self, item: RunningItem, parts: tuple[Part, ...]) -> None:
        """The last vector of an item has come."""
        if self._shadowing is None:
            self._go_on(item, parts)
        else:
            self._shadowing.join(item, parts, partial(self._go_on, item))

    def fail(self, item: RunningItem, error: ApiError) -> None:
        """A vector of an item will not come."""
        if self._shadowing is not None:
            self._shadowing.forget(item)
        self.waiting -= 1
        self._refused(item, error)

    def make_smaller(self, part: _WaitingPart, error: ApiError) -> bool:
        """Whether a part that the service refuses is asked for again, with less text."""
        if not error.is_too_long or part.refusals >= MOST_TRIES or part.is_gone:
            return False
        part.refusals += 1
        self._split(part)
        return True

    def keep_paid(self) -> None:
        """Items of which a part was embedded, or is being, are no longer let go of when their jobs are."""
        for whole in self._divided:
            whole.keep()

    def throw_away(self) -> int:
        """Let go of them after all; the vectors that this throws away."""
        return sum(whole.throw_away() for whole in list(self._divided))

    def has_divided(self, whole: _InParts, more: int) -> None:
        """So many parts more of an item are in hand."""
        self._divided.add(whole)
        self._in_hand += more

    def has_ended(self, whole: _InParts) -> None:
        """They are in hand no more."""
        if whole in self._divided:
            self._divided.remove(whole)
            self._in_hand -= len(whole.parts)
            self._changed.set()

    def ask_again(self, parts: Sequence[_WaitingPart]) -> None:
        """Ask for parts that were not called for. Their shadows' vectors are left to the fill."""
        for part in parts:
            self._ask_model(part.item, content_hash(part.asked), part.asked, part)

    def _ask_for(self, parts: Sequence[_WaitingPart]) -> None:
        for part in parts:
            item = part.item
            key = item.content_hash if part.asked is item.text else content_hash(part.asked)
            self._ask(item, key, part.asked, part)

    def _ask(self, item: RunningItem, key: bytes, text: str, waiter: Waiter) -> None:
        if self._shadowing is not None:
            self._shadowing.expect(item, key, text)
        known = item.known.get((self.layout.generation, text)) if item.known else None
        if known is not None:
            waiter.embedded(known, 0, item.attempts)
        else:
            self._ask_model(item, key, text, waiter)

    def _ask_model(self, item: RunningItem, key: bytes, text: str, waiter: Waiter) -> None:
        self._asker.ask(key, text, self._shape, Flow(item.job.lane, self._collection.name), waiter)

    def _go_on(self, item: RunningItem, parts: tuple[Part, ...]) -> None:
        self.waiting -= 1
        item.parts, item.layout = parts, self.layout
        self._embedded(item)

    def _split(self, part: _WaitingPart) -> None:
        """What was refused comes first: the other parts of its item are in hand already."""
        if part.refusals:
            self._long.appendleft(part)
        else:
            self._long.append(part)
        self._changed.set()

    def _may_split(self) -> bool:
        if not self._long:
            return False
        part = self._long[0]
        return part.refusals > 0 or part.is_gone or self._in_hand < MOST_PARTS

    async def _split_next(self, splitter: Splitter) -> None:
        while not self._may_split():
            self._changed.clear()
            await self._changed.wait()
        part = self._long.popleft()
        if part.is_gone:
            part.refused(_ABANDONED, 0)
            return
        try:
            work = partial(splitter.split, part.content, part.refusals)
            texts = await asyncio.wrap_future(THREAD.submit(work))
        except Exception as error:
            logger.error("text_not_split", "a text could not be split: {error}", **failure(error))
            part.refused(BadInput(code="not_split"), 0)
        else:
            parts = part.cut(texts[0]) if self._cuts else part.divide(texts)
            await self._ask_by_and_by(parts)

    async def _ask_by_and_by(self, parts: Sequence[_WaitingPart]) -> None:
        for at in range(0, len(parts), _ASK_PARTS):
            if parts[at].is_gone:  # its item has died of another part, or nobody waits any more
                parts[at].refused(_ABANDONED, 0)
                return
            self._ask_for(parts[at : at + _ASK_PARTS])
            await asyncio.sleep(0)  # other texts' calls and answers go on


class _Whole:
    """An item whose text is its only part. Most are: it costs one object an item, and no more."""

    __slots__ = ("_embeddings", "_item")
    purpose: UsagePurpose = "documents"

    def __init__(self, embeddings: Embeddings, item: RunningItem) -> None:
        self._embeddings = embeddings
        self._item = item

    @property
    def is_gone(self) -> bool:
        return self._embeddings.is_over or self._item.job.is_released

    @property
    def source(self) -> str | None:
        return self._item.job.source

    @property
    def spans(self) -> Spans:
        return self._item.job.spans

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        item = self._item
        item.tokens = tokens
        item.attempts = attempts
        item.texts = 1
        item.cached = not attempts
        self._embeddings.came(item, (Part(item.text or "", vector),))

    def refused(self, error: ApiError, attempts: int) -> None:
        self._item.attempts = attempts
        self._embeddings.fail(self._item, error)


class _InParts:
    """An item whose text is or may be split, and how many of its parts' vectors are missing.

    While it is kept, parts that are not called for any more are put aside: they are asked for again as soon
    as another part's vector comes, which would be paid for in vain else.
    """

    __slots__ = ("_aside", "_embeddings", "_is_kept", "_is_over", "_missing", "item", "parts")

    def __init__(self, embeddings: Embeddings, item: RunningItem, text: str) -> None:
        self._embeddings = embeddings
        self.item = item
        self._missing = 1
        self._is_over = False
        """Whether its news was told."""
        self._is_kept = False
        self._aside: list[_WaitingPart] = []
        self.parts = [_WaitingPart(self, text, 0)]

    @property
    def is_gone(self) -> bool:
        if self._is_over or self._embeddings.is_over:
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
            self.refused(self._aside[0], _ABANDONED, 0)
        return paid

    def divide(self, part: _WaitingPart, texts: Sequence[str]) -> list[_WaitingPart]:
        """Put parts with these texts in the place of one."""
        smaller = [_WaitingPart(self, text, part.refusals) for text in texts]
        at = self.parts.index(part)
        self.parts[at : at + 1] = smaller
        self._missing += len(smaller) - 1
        if not self._is_over and len(self.parts) > 1:
            is_first = len(self.parts) == len(smaller)
            self._embeddings.has_divided(self, len(smaller) - (0 if is_first else 1))
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
            self._embeddings.came(item, tuple(came))
        elif self._aside:
            again, self._aside = self._aside, []
            self._embeddings.ask_again(again)

    def refused(self, part: _WaitingPart, error: ApiError, attempts: int) -> None:
        """A part will have no vector as it is; the others are not waited for any more."""
        if self._is_over or self._puts_aside(part, error) or self._embeddings.make_smaller(part, error):
            return
        self._end()
        self.item.attempts = max(self.item.attempts, attempts)
        came = ((each.asked, each.vector) for each in self.parts)
        self.item.remember(self._embeddings.layout.generation, came)
        self._embeddings.fail(self.item, error)

    def _puts_aside(self, part: _WaitingPart, error: ApiError) -> bool:
        """Whether a part waits for the news of others, which are in flight."""
        if not (self._is_kept and isinstance(error, NotCalled)):
            return False
        self._aside.append(part)
        return len(self._aside) < self._missing

    def _end(self) -> None:
        self._is_over = True
        self._embeddings.has_ended(self)


class _WaitingPart:
    """A part that waits for its vector."""

    __slots__ = ("_whole", "asked", "content", "refusals", "vector")
    purpose: UsagePurpose = "documents"

    def __init__(self, whole: _InParts, content: str, refusals: int) -> None:
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
        return self._whole.is_gone

    @property
    def source(self) -> str | None:
        return self.item.job.source

    @property
    def spans(self) -> Spans:
        return self.item.job.spans

    def cut(self, text: str) -> list[_WaitingPart]:
        """Ask for the beginning of the content alone; the content is stored all the same."""
        self.asked = text
        self.item.truncated = text.strip() != self.content.strip()
        return [self]

    def divide(self, texts: Sequence[str]) -> list[_WaitingPart]:
        """Let smaller parts take its place."""
        return self._whole.divide(self, texts)

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        self.vector = vector
        self._whole.embedded(tokens, attempts)

    def refused(self, error: ApiError, attempts: int) -> None:
        self._whole.refused(self, error, attempts)
