"""The fill queue: each vector is told of once, whatever happens to the rest of its batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np

from embedq_worker.engine.moving.fill_queue import FillQueue
from embedq_worker.engine.work import Outcome
from embedq_worker.errors import CollectionMoved, RowRefused
from embedq_worker.store.moving.filler import Filler
from embedq_worker.store.postgres.outage import Outage
from embedq_worker.store.rows import Filled


class Refusing:
    """A filler that refuses the whole batch, takes its first half, and finds the collection moved."""

    generation = 2

    def __init__(self) -> None:
        self.filled: list[str] = []
        self._answers = iter([RowRefused("22000"), None, CollectionMoved("moved")])

    async def fill(self, batch: Sequence[Filled]) -> None:
        """As a ``Filler``."""
        answer = next(self._answers, None)
        if answer is not None:
            raise answer
        self.filled += [each.id for each in batch]


async def test_only_what_was_not_told_is_put_back() -> None:
    """The half that was filled before the collection moved is not filled and told of again."""
    told: list[tuple[str, Outcome]] = []
    looks: list[bool] = []

    def note(item_id: str, outcome: Outcome) -> None:
        told.append((item_id, outcome))

    async def look() -> bool:
        looks.append(True)
        return True

    filler = Refusing()
    queue = FillQueue(Outage(), look)
    queue.follow(cast("Filler", filler))
    for item_id in "abcd":
        vector = Filled(item_id, 0, b"", np.zeros(2, np.float32))
        queue.add(2, vector, partial(note, item_id))
    running = asyncio.create_task(queue.run())
    await queue.finish()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert filler.filled == ["a", "b", "c", "d"]
    assert told == [(item_id, Outcome.STORED) for item_id in "abcd"]
    assert looks == [True]
