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

from embedq_worker.engine.moving.shadowing import Shadowing
from embedq_worker.engine.splitting.splitter import MOST_TRIES, Splitter
from embedq_worker.engine.splitting.thread import THREAD
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.texts import Asker, Shape, Waiter
from embedq_worker.engine.waiting_parts import InParts, WaitingPart, Whole
from embedq_worker.engine.work import RunningItem, content_hash
from embedq_worker.errors import ABANDONED, ApiError, BadInput
from embedq_worker.limiter import Flow
from embedq_worker.logs import failure, get_logger
from embedq_worker.store.collection import Collection
from embedq_worker.store.rows import Part

logger = get_logger(__name__)

MOST_PARTS = 8_192
"""Parts in hand of one collection from which on no other text is split: 50 MB of vectors of 1,536 dimensions.
Too few leave requests unfilled, too many fill the memory."""
_ASK_PARTS = 100
"""Parts that are asked for in one go."""


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
        self._long: deque[WaitingPart] = deque()
        self._divided: set[InParts] = set()
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
            self._ask(item, item.content_hash, item.text, Whole(self, item))
            return
        whole = InParts(self, item, item.text).parts
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

    def make_smaller(self, part: WaitingPart, error: ApiError) -> bool:
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

    def has_divided(self, whole: InParts, more: int) -> None:
        """So many parts more of an item are in hand."""
        self._divided.add(whole)
        self._in_hand += more

    def has_ended(self, whole: InParts) -> None:
        """They are in hand no more."""
        if whole in self._divided:
            self._divided.remove(whole)
            self._in_hand -= len(whole.parts)
            self._changed.set()

    def ask_again(self, parts: Sequence[WaitingPart]) -> None:
        """Ask for parts that were not called for. Their shadows' vectors are left to the fill."""
        for part in parts:
            self._ask_model(part.item, content_hash(part.asked), part.asked, part)

    def _ask_for(self, parts: Sequence[WaitingPart]) -> None:
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

    def _split(self, part: WaitingPart) -> None:
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
            part.refused(ABANDONED, 0)
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

    async def _ask_by_and_by(self, parts: Sequence[WaitingPart]) -> None:
        for at in range(0, len(parts), _ASK_PARTS):
            if parts[at].is_gone:  # its item has died of another part, or nobody waits any more
                parts[at].refused(ABANDONED, 0)
                return
            self._ask_for(parts[at : at + _ASK_PARTS])
            await asyncio.sleep(0)  # other texts' calls and answers go on
