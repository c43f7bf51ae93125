"""Items wait for the vectors of their parts, whatever comes first."""

from __future__ import annotations

import random

import numpy as np
import pytest

from embedq_worker.engine.embedding import Embeddings
from embedq_worker.engine.texts import Shape, Waiter
from embedq_worker.engine.work import Hold, RunningItem, RunningJob, Vector, content_hash
from embedq_worker.errors import ApiError, BadInput, NotCalled
from embedq_worker.limiter import Flow
from embedq_worker.store.collection import Collection

COLLECTION = Collection(
    id=1,
    name="docs",
    table_schema="public",
    table_name="docs",
    model="m",
    dimensions=2,
    vector_type="vector",
    versions="clock",
)


def vector(text: str) -> Vector:
    """A text's own vector."""
    return np.array([len(text), hash(text) % 1000], np.float32)


class Service:
    """Remembers who asked for what, and the items that were told of."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Waiter]] = []
        self.embedded: list[RunningItem] = []
        self.refused: list[tuple[RunningItem, ApiError]] = []
        self.hold = Hold()
        self.embeddings = Embeddings(
            COLLECTION,
            self,
            embedded=self.embedded.append,
            refused=lambda item, error: self.refused.append((item, error)),
        )

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """As a dispatcher."""
        assert (key, shape, flow) == (content_hash(text), Shape(2, "document"), Flow("bulk", "docs"))
        self.asked.append((text, waiter))

    def item(self, text: str = "whole") -> RunningItem:
        """An item of a job of its own."""
        job = RunningJob(1, lane="bulk", source=None, finish=lambda _: None, hold=self.hold)
        return RunningItem(job, "1", 1, text, None)


def in_parts(service: Service, *texts: str) -> RunningItem:
    """An item that waits for the vectors of these."""
    item = service.item()
    service.embeddings.ask_for_parts(item, texts)
    return item


def test_a_text_is_one_part() -> None:
    """It has its vector, its tokens and its attempts."""
    service = Service()
    item = service.item("text")
    service.embeddings.ask(item)
    ((text, waiter),) = service.asked
    assert (service.embeddings.waiting, waiter.is_gone) == (1, False)
    waiter.embedded(vector(text), 5, 2)
    assert service.embedded == [item]
    assert (item.tokens, item.attempts, service.embeddings.waiting) == (5, 2, 0)
    (part,) = item.parts
    assert part.content == "text"
    assert np.array_equal(part.vector, vector("text"))


@pytest.mark.parametrize("seed", range(5))
def test_parts_come_in_any_order(seed: int) -> None:
    """They stand in the text's order, each with its own vector; equal ones too."""
    service = Service()
    item = in_parts(service, "a", "bb", "a", "dddd")
    random.Random(seed).shuffle(service.asked)
    for number, (text, waiter) in enumerate(service.asked):
        assert not service.embedded
        waiter.embedded(vector(text), 3, number)
    assert service.embedded == [item]
    assert [part.content for part in item.parts] == ["a", "bb", "a", "dddd"]
    assert all(np.array_equal(part.vector, vector(part.content)) for part in item.parts)
    assert (item.tokens, item.attempts) == (12, 3)


def test_one_refused_part_refuses_the_item() -> None:
    """Once; the other parts are not waited for any more, and their news change nothing."""
    service = Service()
    item = in_parts(service, "a", "b", "c")
    (_, first), (_, second), (_, third) = service.asked
    first.embedded(vector("a"), 1, 1)
    error = BadInput(400, "too_long")
    second.refused(error, 4)
    assert (service.refused, item.attempts, service.embeddings.waiting) == ([(item, error)], 4, 0)
    assert third.is_gone
    third.refused(NotCalled("abandoned", "nobody waits for it any more"), 1)
    third.embedded(vector("c"), 1, 1)
    assert (len(service.refused), service.embedded) == (1, [])


def test_who_waits_no_more() -> None:
    """The items of a released job, and those of a dropped collection."""
    service = Service()
    in_parts(service, "a", "b")
    service.hold.is_released = True
    assert all(waiter.is_gone for _, waiter in service.asked)
    dropped = Service()
    in_parts(dropped, "a", "b")
    assert not any(waiter.is_gone for _, waiter in dropped.asked)
    dropped.embeddings.let_go()
    assert all(waiter.is_gone for _, waiter in dropped.asked)
