"""Items wait for the vectors of their parts, whatever comes first."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest

from embedq_worker.catalogue import Model
from embedq_worker.engine import embedding as module
from embedq_worker.engine.embedding import Embeddings
from embedq_worker.engine.splitting.chunking import SplitFailed
from embedq_worker.engine.splitting.splitter import MOST_TRIES, Splitter
from embedq_worker.engine.texts import Shape, Waiter
from embedq_worker.engine.work import Hold, RunningItem, RunningJob, Vector, content_hash
from embedq_worker.errors import ApiError, BadInput, NotCalled
from embedq_worker.limiter import Flow
from embedq_worker.store.collection import Collection
from tests.support.docs_collection import DOCS

TRUNCATING = msgspec.structs.replace(DOCS, on_too_long="truncate")


def too_long() -> BadInput:
    """The service's refusal of a text that is too long."""
    error = BadInput(400, "context_length_exceeded")
    error.is_too_long = True
    return error


def vector(text: str) -> Vector:
    """A text's own vector."""
    return np.array([len(text), hash(text) % 1000], np.float32)


class Service:
    """Remembers who asked for what, and the items that were told of."""

    def __init__(self, splitter: Splitter | None = None, collection: Collection = DOCS) -> None:
        self.asked: list[tuple[str, Waiter]] = []
        self.embedded: list[RunningItem] = []
        self.refused: list[tuple[RunningItem, ApiError]] = []
        self.hold = Hold()
        self._asked = asyncio.Event()
        self.has_refused = asyncio.Event()
        self.embeddings = Embeddings(
            collection,
            self,
            splitter,
            embedded=self.embedded.append,
            refused=self._refuse,
        )

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """As a dispatcher."""
        assert (key, shape, flow) == (content_hash(text), Shape(2, "document"), Flow("bulk", "docs"))
        self.asked.append((text, waiter))
        self._asked.set()

    def _refuse(self, item: RunningItem, error: ApiError) -> None:
        self.refused.append((item, error))
        self.has_refused.set()

    async def news(self, count: int) -> None:
        """Wait until so many texts were asked for."""
        async with asyncio.timeout(5):
            while len(self.asked) < count:
                self._asked.clear()
                await self._asked.wait()

    def item(self, text: str = "whole") -> RunningItem:
        """An item of a job of its own."""
        job = RunningJob(1, lane="bulk", source=None, finish=lambda _: None, hold=self.hold)
        return RunningItem(job, "1", 1, text, None)


class AtSpaces(Splitter):
    """Splits at spaces; what was refused, in halves. A text without a space seems short."""

    def __init__(self) -> None:
        super().__init__(Model(id="m", dimensions=2), 1)

    def fits(self, text: str) -> bool:
        """Whether it has no space."""
        return " " not in text

    def split(self, text: str, refusals: int = 0) -> list[str]:
        """Raises for what breaks it."""
        if "breaks" in text:
            raise SplitFailed
        half = len(text) // 2
        return [text[:half], text[half:]] if refusals else text.split()


@asynccontextmanager
async def splitting(texts: str, collection: Collection = DOCS) -> AsyncIterator[tuple[Service, RunningItem]]:
    """An item of a text that is split at its spaces, when its parts were asked for."""
    service = Service(AtSpaces(), collection)
    running = asyncio.create_task(service.embeddings.run())
    item = service.item(texts)
    service.embeddings.ask(item)
    await service.news(1 if collection is TRUNCATING else len(texts.split()))
    try:
        yield service, item
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


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
async def test_parts_come_in_any_order(seed: int) -> None:
    """They stand in the text's order, each with its own vector; equal ones too."""
    async with splitting("a bb a dddd") as (service, item):
        random.Random(seed).shuffle(service.asked)
        for number, (text, waiter) in enumerate(service.asked):
            assert not service.embedded
            waiter.embedded(vector(text), 3, number)
    assert service.embedded == [item]
    assert [part.content for part in item.parts] == ["a", "bb", "a", "dddd"]
    assert all(np.array_equal(part.vector, vector(part.content)) for part in item.parts)
    assert (item.tokens, item.attempts, item.truncated) == (12, 3, False)


async def test_one_refused_part_refuses_the_item() -> None:
    """Once; the other parts are not waited for any more, and their news change nothing."""
    async with splitting("a b c") as (service, item):
        (_, first), (_, second), (_, third) = service.asked
        first.embedded(vector("a"), 1, 1)
        error = BadInput(400, "custom")
        second.refused(error, 4)
        assert (service.refused, item.attempts, service.embeddings.waiting) == ([(item, error)], 4, 0)
        assert third.is_gone
        third.refused(NotCalled("abandoned", "nobody waits for it any more"), 1)
        third.embedded(vector("c"), 1, 1)
        assert (len(service.refused), service.embedded) == (1, [])


async def test_a_part_that_is_too_long_is_made_smaller() -> None:
    """What comes of it stands in its place."""
    async with splitting("aa bbbb c") as (service, item):
        (_, first), (_, second), (_, third) = service.asked
        second.refused(too_long(), 1)
        third.embedded(vector("c"), 1, 1)
        await service.news(5)
        first.embedded(vector("aa"), 1, 1)
        for text, waiter in service.asked[3:]:
            waiter.embedded(vector(text), 1, 1)
    assert [part.content for part in item.parts] == ["aa", "bb", "bb", "c"]
    assert (service.embedded, service.refused) == ([item], [])


async def test_a_text_that_seemed_short_is_split_when_the_service_refuses_it() -> None:
    """A few times; then it is a dead letter."""
    async with splitting("x" * 640) as (service, item):
        for number in range(MOST_TRIES):
            service.asked[-1][1].refused(too_long(), 1)
            await service.news(3 + 2 * number)
        assert not service.refused
        service.asked[-1][1].refused(last := too_long(), 1)
    assert service.refused == [(item, last)]
    assert len(service.asked[-1][0]) == 640 / 2**MOST_TRIES


async def test_a_text_that_is_cut_keeps_its_content() -> None:
    """Its beginning is asked for, all of it stored, and the item says that it was cut."""
    async with splitting("beginning end", TRUNCATING) as (service, item):
        service.asked[0][1].embedded(vector("beginning"), 1, 1)
    assert [(part.content, item.truncated) for part in item.parts] == [("beginning end", True)]
    assert np.array_equal(item.parts[0].vector, vector("beginning"))


async def test_a_text_that_cannot_be_split(caplog: pytest.LogCaptureFixture) -> None:
    """It is a dead letter, its words are not logged, and the next one is split."""
    service = Service(AtSpaces())
    running = asyncio.create_task(service.embeddings.run())
    bad = service.item("canary breaks")
    service.embeddings.ask(bad)
    service.embeddings.ask(service.item("a b"))
    await service.news(2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [(item, error.code) for item, error in service.refused] == [(bad, "not_split")]
    assert "SplitFailed" in caplog.text
    assert "canary" not in caplog.text


async def test_who_waits_no_more() -> None:
    """The items of a released job, and those of a dropped collection."""
    async with splitting("a b") as (service, _):
        service.hold.is_released = True
        assert all(waiter.is_gone for _, waiter in service.asked)
        late = service.item("never split")
        service.embeddings.ask(late)
        await asyncio.wait_for(service.has_refused.wait(), 5)
        assert [(item, error.code) for item, error in service.refused] == [(late, "abandoned")]
        assert len(service.asked) == 2
    async with splitting("a b") as (dropped, _):
        assert not any(waiter.is_gone for _, waiter in dropped.asked)
        dropped.embeddings.let_go()
        assert all(waiter.is_gone for _, waiter in dropped.asked)


async def test_texts_wait_to_be_split_while_many_parts_are_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors take memory; what the service refuses is made smaller all the same, for others wait for it."""
    monkeypatch.setattr(module, "MOST_PARTS", 2)
    async with splitting("aa bb cc") as (service, first):
        second = service.item("dd ee ff")
        service.embeddings.ask(second)
        service.asked[0][1].refused(too_long(), 1)
        await service.news(5)
        for text, waiter in service.asked[1:4]:
            waiter.embedded(vector(text), 1, 1)
        assert len(service.asked) == 5
        service.asked[4][1].embedded(vector("a"), 1, 1)
        assert service.embedded == [first]
        await service.news(8)
        third = service.item("gg hh")
        service.embeddings.ask(third)
        service.asked[5][1].refused(BadInput(400, "custom"), 1)
        await service.news(10)
    assert [item for item, _ in service.refused] == [second]
    assert [text for text, _ in service.asked[8:]] == ["gg", "hh"]


class Endless(AtSpaces):
    """Splits until it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()
        self.is_told = threading.Event()

    def split(self, text: str, refusals: int = 0) -> list[str]:  # noqa: ARG002  # as its base
        """Fails once it is told."""
        self.has_begun.set()
        assert self.is_told.wait(30)
        raise SplitFailed

    def stop(self) -> None:
        """Tell it."""
        self.is_told.set()


ABANDONED = NotCalled("abandoned", "nobody waits for it any more")


async def test_an_item_that_is_paid_for_in_part_goes_on() -> None:
    """When its job is released: what is not in flight is asked for again as soon as a vector has come."""
    async with splitting("a b c") as (service, item):
        service.embeddings.keep_paid()
        service.hold.is_released = True
        (_, first), (_, second), (_, third) = service.asked
        for waiter in (second, third):
            assert waiter.is_gone
            waiter.refused(ABANDONED, 0)
        first.embedded(vector("a"), 1, 1)
        assert [text for text, _ in service.asked[3:]] == ["b", "c"]
        for text, waiter in service.asked[3:]:
            assert not waiter.is_gone
            waiter.embedded(vector(text), 1, 1)
    assert (service.embedded, service.refused) == ([item], [])
    assert [part.content for part in item.parts] == ["a", "b", "c"]


async def test_an_item_that_is_not_paid_for_is_let_go_of() -> None:
    """Nothing of it is in flight; or its job was released before, and others may have it."""
    async with splitting("a b") as (service, item):
        service.embeddings.keep_paid()
        service.hold.is_released = True
        for _, waiter in list(service.asked):
            waiter.refused(ABANDONED, 0)
        assert service.refused == [(item, ABANDONED)]
        assert service.embeddings.throw_away() == 0
    async with splitting("a b") as (service, item):
        service.hold.is_released = True
        service.embeddings.keep_paid()
        service.asked[0][1].embedded(vector("a"), 1, 1)
        assert service.asked[1][1].is_gone
        service.asked[1][1].refused(ABANDONED, 0)
        assert service.refused == [(item, ABANDONED)]


async def test_what_is_paid_for_is_thrown_away_in_the_end() -> None:
    """The time to stop is over: the vectors are counted, and the items let go of."""
    async with splitting("a b c") as (service, item):
        service.embeddings.keep_paid()
        service.hold.is_released = True
        service.asked[0][1].embedded(vector("a"), 1, 1)
        gone = [service.asked[1][1].is_gone]
        assert service.embeddings.throw_away() == 1
        gone.append(service.asked[1][1].is_gone)
        assert gone == [False, True]
        service.asked[1][1].refused(ABANDONED, 0)
        assert service.refused == [(item, ABANDONED)]
    async with splitting("a b") as (service, item):
        service.embeddings.keep_paid()
        service.hold.is_released = True
        service.asked[1][1].refused(ABANDONED, 0)
        assert service.embeddings.throw_away() == 0
        assert [item for item, _ in service.refused] == [item]
        service.asked[0][1].embedded(vector("a"), 1, 1)
        assert len(service.refused) == 1


async def test_a_worker_that_stops_splits_no_more() -> None:
    """The text that is being split is let go of: the next process splits it."""
    splitter = Endless()
    service = Service(splitter)
    running = asyncio.create_task(service.embeddings.run())
    service.embeddings.ask(service.item("a b"))
    assert await asyncio.to_thread(splitter.has_begun.wait, 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert splitter.is_told.is_set()


def test_a_process_ends_while_a_text_is_split() -> None:
    """Whatever the library is at."""
    script = """
import asyncio, threading
from embedq_worker.engine.splitting.thread import THREAD
begun = threading.Event()
async def main():
    running = asyncio.wrap_future(THREAD.submit(lambda: begun.set() or threading.Event().wait(100)))
    await asyncio.to_thread(begun.wait)
    running.cancel()
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
