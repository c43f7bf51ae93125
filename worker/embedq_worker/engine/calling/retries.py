"""Batches that are to be tried again: at once, or after a random part of a growing delay."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from math import inf

from embedq_worker.engine.delays import doubled
from embedq_worker.engine.texts import Batch
from embedq_worker.limiter import Flow, Want

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0


class Retries:
    """Batches by flow. ``changed`` is called when one has become due; none of a held collection is."""

    def __init__(self, changed: Callable[[], None], is_held: Callable[[str], bool] = lambda _: False) -> None:
        self._changed = changed
        self._is_held = is_held
        self._due: defaultdict[Flow, deque[Batch]] = defaultdict(deque)
        self._timers: dict[Batch, asyncio.TimerHandle] = {}

    def add(self, batch: Batch) -> None:
        """Try it when its flow has its turn, after those that are due already."""
        for part in batch.divided(self._is_held):
            self._due[part.flow].append(part)
        self._changed()

    def sort_out(self) -> None:
        """Other collections are held than before, or texts have gone to other ones."""
        due = [batch for batches in self._due.values() for batch in batches]
        self._due.clear()
        for batch in due:
            self.add(batch)

    def add_later(self, batch: Batch) -> float:
        """Try it after a delay with full jitter, by its failures so far; returns the seconds."""
        ceiling = doubled(_FIRST_DELAY, _LONGEST_DELAY, batch.failures)
        delay = random.uniform(0, ceiling)  # noqa: S311 - jitter
        self._timers[batch] = asyncio.get_running_loop().call_later(delay, self._ripen, batch)
        return delay

    def next(self, flow: Flow, most_tokens: float = inf) -> Batch | None:
        """Take the next batch of a flow that is due, unless it has more tokens, by estimate."""
        batches = None if self._is_held(flow.collection) else self._due.get(flow)
        return batches.popleft() if batches and batches[0].tokens <= most_tokens else None

    def wanted(self) -> Iterator[tuple[Flow, Want]]:
        """The calls that are due, and the most tokens of one, by estimate."""
        for flow, batches in self._due.items():
            if batches and not self._is_held(flow.collection):
                yield flow, Want(len(batches), max(batch.tokens for batch in batches))

    def sift(self, keeps: Callable[[Batch], bool]) -> None:
        """Go through all batches, also those that are not due yet, and keep only some."""
        due = [batch for batches in self._due.values() for batch in batches]
        self._due.clear()
        for batch in due:
            if keeps(batch):
                self._due[batch.flow].append(batch)
        for batch in [batch for batch in self._timers if not keeps(batch)]:
            self._timers.pop(batch).cancel()

    def cancel(self) -> None:
        """Let no more become due."""
        for timer in self._timers.values():
            timer.cancel()

    def _ripen(self, batch: Batch) -> None:
        del self._timers[batch]
        self.add(batch)
