"""The batchers of one model, one for each shape and lane: what is due of them, and the next request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from time import monotonic

from embedq.contract import Lane
from embedq_worker.catalogue import Model
from embedq_worker.engine.calling.batcher import Batcher
from embedq_worker.engine.calling.sizes import Sizes
from embedq_worker.engine.texts import Batch, Shape, WaitingText
from embedq_worker.limiter import Flow, Want
from embedq_worker.store.fleet.queues import LANES


class Batchers:
    """Texts of one model that wait in line.

    A request is due when it is full, or its oldest text has waited ``batch_wait`` seconds; a query at once.
    ``sort_out`` is to be called whenever ``is_held`` says something else of a collection.
    """

    def __init__(self, model: Model, sizes: Sizes, batch_wait: float, is_held: Callable[[str], bool]) -> None:
        self._model = model
        self._sizes = sizes
        self._batch_wait = batch_wait
        self._is_held = is_held
        self._batchers: dict[tuple[Shape, Lane], Batcher] = {}

    def add(self, text: WaitingText, shape: Shape) -> None:
        """Put a text in the line of its flow."""
        place = shape, text.flow.lane
        if place not in self._batchers:
            self._batchers[place] = Batcher(self._model, self._sizes.most(), monotonic, self._is_held)
        self._batchers[place].add(text)

    def remove(self, text: WaitingText, shape: Shape) -> bool:
        """Take a text out of its line; whether it was in it."""
        batcher = self._batchers.get((shape, text.flow.lane))
        return batcher is not None and batcher.remove(text)

    def texts(self, lanes: Collection[Lane] = LANES) -> Iterator[tuple[WaitingText, Shape]]:
        """Every text that waits, those that are held among them. The one at hand may be removed."""
        for (shape, lane), batcher in self._batchers.items():
            for text in batcher.texts() if lane in lanes else ():
                yield text, shape

    def sort_out(self) -> None:
        """Other collections are held than before."""
        for batcher in self._batchers.values():
            batcher.sort_out()

    def wanted(self) -> tuple[list[tuple[Flow, Want]], float | None]:
        """The calls that are due, and the tokens of each by estimate; the seconds until others may be."""
        wanted: list[tuple[Flow, Want]] = []
        delays: list[float] = []
        most_tokens = self._sizes.most()
        for (_, lane), batcher in self._batchers.items():
            batcher.most_tokens = most_tokens
            left = self._due_in(batcher, lane)
            if left == 0:
                wanted += [(Flow(lane, name), want) for name, want in batcher.wanted().items()]
            elif left is not None:
                delays.append(left)
        return wanted, min(delays, default=None)

    def take(self, flow: Flow, most_tokens: float) -> Batch | None:
        """The next request of a lane, for the flow's collection first; None also where it is too large."""
        lane = [(shape, batcher) for (shape, lane), batcher in self._batchers.items() if lane == flow.lane]
        having = (each for each in lane if each[1].has(flow.collection))
        due = (each for each in lane if self._due_in(each[1], flow.lane) == 0)
        found = next(having, None) or next(due, None)
        if found is None:
            return None
        shape, batcher = found
        texts = batcher.take(flow.collection, most_tokens)
        return Batch(texts, shape) if texts else None

    def _due_in(self, batcher: Batcher, lane: Lane) -> float | None:
        """Seconds; None where nothing waits."""
        if not batcher:
            return None
        if lane == "query" or batcher.full:
            return 0.0
        return max(0.0, self._batch_wait - batcher.oldest_wait)
