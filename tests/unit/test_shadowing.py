"""Both models' vectors of an item, whichever comes first; and vectors in hand when columns change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from embedq_worker.catalogue import Model
from embedq_worker.engine.embedding import Embeddings
from embedq_worker.engine.moving import patience
from embedq_worker.engine.moving.models import ShadowModel
from embedq_worker.engine.moving.shadowing import Shadowing
from embedq_worker.engine.texts import Shape, Waiter
from embedq_worker.engine.work import Outcome, RunningItem, RunningJob, Vector, content_hash, rearrange
from embedq_worker.errors import BadInput, NotCalled
from embedq_worker.limiter import Flow
from embedq_worker.store.collection import Layout
from embedq_worker.store.rows import Filled, Part
from tests.support.docs_collection import DOCS
from tests.unit.test_embedding import AtSpaces

OWN = np.array([1, 2], np.float32)
OTHER = np.array([3, 4, 5], np.float32)


class Service:
    """The other model: remembers who asked; and what became of items."""

    def __init__(self, *, max_chars: int | None = None) -> None:
        self.asked: list[tuple[str, Waiter]] = []
        self.late: list[tuple[int, Filled]] = []
        self.done: list[tuple[Part, ...]] = []
        self.is_paused = False
        model = Model(id="other", dimensions=3, max_chars_alone=max_chars)
        shadow = ShadowModel(model, 3, 2, self, lambda: self.is_paused)
        self.shadowing = Shadowing("docs", shadow, lambda *late: self.late.append(late))

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """As a dispatcher."""
        assert (key, shape, flow) == (content_hash(text), Shape(3, "document"), Flow("live", "docs"))
        self.asked.append((text, waiter))

    def answer(self, number: int = 0, vector: Vector = OTHER) -> None:
        """The vector of the text that was asked for so early."""
        self.asked[number][1].embedded(vector, 1, 1)

    def expect(self, item: RunningItem, *texts: str) -> None:
        """The item's parts are asked for."""
        for text in texts:
            self.shadowing.expect(item, content_hash(text), text)

    def own(self, item: RunningItem, *texts: str) -> None:
        """The collection's own vectors have come."""
        self.shadowing.join(item, tuple(Part(text, OWN) for text in texts), self.done.append)


class Asked:
    """The collection's own model: remembers who waits."""

    def __init__(self) -> None:
        self.waiters: list[Waiter] = []
        self.was_asked = asyncio.Event()

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:  # noqa: ARG002  # an Asker
        """As a dispatcher."""
        self.waiters.append(waiter)
        self.was_asked.set()


def running(text: str = "text") -> RunningItem:
    """An item of a job of its own."""
    return RunningItem(RunningJob(1, lane="live", source=None, finish=lambda _: None), "1", 1, text, None)


def shadows(parts: tuple[Part, ...]) -> list[bool]:
    """Which parts have the other vector."""
    return [part.shadow is not None for part in parts]


async def test_both_come() -> None:
    """In either order; the item goes on once, when it has both."""
    for first in ("own", "other"):
        service, item = Service(), running()
        service.expect(item, "text")
        steps: list[Callable[[], None]] = [partial(service.own, item, "text"), service.answer]
        for step in steps if first == "own" else reversed(steps):
            assert service.done == []
            step()
        assert [shadows(parts) for parts in service.done] == [[True]]
    assert service.late == []


async def test_late_vector_is_stored_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The item does not wait for it for long, and it is not thrown away."""
    monkeypatch.setattr(patience, "LEAST", 0.01)
    service, item = Service(), running()
    service.expect(item, "a", "b")
    service.answer(1)
    service.own(item, "a", "b")
    await asyncio.sleep(0.02)
    assert shadows(service.done[0]) == [False, True]
    assert service.asked[0][1].is_gone
    service.answer(0)
    assert service.late == []  # its row is not stored yet: a vector that overtakes it would fill nothing
    item.settle(Outcome.STORED)
    ((generation, filled),) = service.late
    assert (generation, filled.id, filled.chunk, filled.content_hash) == (2, "1", 0, content_hash("a"))
    assert len(service.done) == 1


async def test_what_will_not_come_is_not_waited_for() -> None:
    """A model that is paused or takes no such text is not asked; one that refuses it is done with it."""
    for service in (Service(), Service(max_chars=3)):
        service.is_paused = service.shadowing.shadow.model.max_chars_alone is None
        item = running()
        service.expect(item, "text")
        service.own(item, "text")
        assert (service.asked, [shadows(parts) for parts in service.done]) == ([], [[False]])
    refusing, item = Service(), running()
    refusing.expect(item, "text")
    refusing.asked[0][1].refused(BadInput(400), 1)
    refusing.own(item, "text")
    assert [shadows(parts) for parts in refusing.done] == [[False]]


async def test_hurry() -> None:
    """A worker that stops waits for nothing; what waits for its own vectors goes on waiting."""
    service, one, other = Service(), running(), running("other")
    service.expect(one, "text")
    service.expect(other, "other")
    service.own(one, "text")
    service.shadowing.hurry()
    assert [shadows(parts) for parts in service.done] == [[False]]
    service.own(other, "other")
    service.answer(1)
    assert [shadows(parts) for parts in service.done] == [[False], [True]]


async def test_item_that_comes_back_knows_its_vectors() -> None:
    """It is not asked for what has come."""
    service, item = Service(), running()
    service.expect(item, "a", "b")
    service.answer(0)
    service.shadowing.forget(item)
    service.expect(item, "a", "b")
    assert [text for text, _ in service.asked] == ["a", "b", "b"]


@pytest.mark.parametrize("has_moved", [False, True])
async def test_item_that_ends_while_it_is_asked_for_leaves_nothing(has_moved: bool) -> None:
    """Of hundreds of parts the first is refused, or let go of: the others are asked of neither model."""
    service, own = Service(), Asked()
    told: list[RunningItem] = []
    embeddings = Embeddings(
        DOCS,
        own,
        AtSpaces(),
        embedded=told.append,
        refused=lambda item, _: told.append(item),
        shadowing=service.shadowing,
    )
    splitting = asyncio.create_task(embeddings.run())
    item = running(" ".join(f"p{n}" for n in range(250)))
    embeddings.ask(item)
    await own.was_asked.wait()
    if has_moved:
        embeddings.let_go()
    own.waiters[0].refused(NotCalled("abandoned", "moved") if has_moved else BadInput(400), 1)
    asked = len(own.waiters), len(service.asked)
    for _ in range(20):
        await asyncio.sleep(0)
    splitting.cancel()
    await asyncio.gather(splitting, return_exceptions=True)
    assert told == [item]
    assert (len(own.waiters), len(service.asked)) == asked
    assert service.shadowing._expected == {}


def in_hand(*parts: Part, layout: Layout) -> RunningItem:
    """An item whose vectors were got for a layout."""
    item = running()
    item.parts, item.layout = parts, layout
    return item


@pytest.mark.parametrize(
    ("layout", "own", "shadow"),
    [
        (Layout(1, 2), OWN, OTHER),
        (Layout(2, 1), OTHER, OWN),
        (Layout(2, None), OTHER, None),
        (Layout(1, None), OWN, None),
        (Layout(1, 3), OWN, None),
        (Layout(2, 3), OTHER, None),
    ],
)
def test_vectors_in_hand_are_mapped_to_the_columns_of_now(
    layout: Layout, own: Vector, shadow: Vector | None
) -> None:
    """Switched, finished, undone, abandoned: each vector goes where its model is, or nowhere."""
    item = in_hand(Part("text", OWN, OTHER), layout=Layout(1, 2))
    assert rearrange(item, layout)
    (part,) = item.parts
    assert part.vector is own
    assert part.shadow is shadow
    assert item.layout == layout


def test_what_is_missing_is_asked_for_and_the_rest_remembered() -> None:
    """Of two parts one has no vector of the collection's new model; a model that is gone is forgotten."""
    item = in_hand(Part("a", OWN, OTHER), Part("b", OWN), layout=Layout(1, 2))
    assert not rearrange(item, Layout(2, 1))
    assert set(item.known) == {(1, "a"), (2, "a"), (1, "b")}
    item = in_hand(Part("a", OWN), layout=Layout(1, None))
    assert not rearrange(item, Layout(2, None))
    assert item.known == {}
