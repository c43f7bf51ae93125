"""What waits to be written: nothing is lost, nothing is settled twice, and no row holds up the others."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedq_worker.engine import burial_queue, steady
from embedq_worker.engine.burial_queue import BurialQueue
from embedq_worker.engine.rivals import rivals
from embedq_worker.engine.summary import Summary, causes
from embedq_worker.engine.work import Outcome, RunningItem, RunningJob, content_hash
from embedq_worker.engine.write_queue import MAX_ROWS, Change, WriteQueue
from embedq_worker.errors import CollectionGone, RowRefused
from embedq_worker.store.collection import Layout
from embedq_worker.store.dead_letters.burial import DeadLetter
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.postgres.outage import Outage
from embedq_worker.store.rows import Part, Row, encode
from embedq_worker.store.writer import Writer


def item(item_id: str, version: int, text: str | None) -> RunningItem:
    """An item of a job of its own."""
    return RunningItem(
        RunningJob(1, lane="live", source=None, finish=lambda _: None), item_id, version, text, None
    )


def give_vector(each: RunningItem) -> None:
    """As when it has come."""
    each.parts = (Part(each.text or "", np.ones(2, np.float32)),)


items = st.lists(
    st.builds(item, st.sampled_from("abc"), st.integers(0, 3), st.none() | st.sampled_from(["x", "y"]))
)


@given(items)
def test_rivals_are_grouped(items: list[RunningItem]) -> None:
    """The highest version first, of equals the higher hash, then the one that came first; nothing is lost."""
    groups = rivals(items)
    assert len({group[0].id for group in groups}) == len(groups)
    assert sorted(map(id, chain.from_iterable(groups))) == sorted(map(id, items))
    for group in groups:
        same = [other for other in items if other.id == group[0].id]
        assert group == sorted(same, key=lambda other: other.order, reverse=True)


def test_a_job_is_finished_with_its_last_item() -> None:
    """And says what became of each."""
    summaries: list[Summary] = []
    job = RunningJob(3, lane="live", source=None, finish=summaries.append)
    whole, superseded, chunked = (RunningItem(job, name, 1, "x", None) for name in "abc")
    whole.texts, whole.tokens, whole.attempts = 1, 5, 1
    chunked.texts, chunked.cached, chunked.tokens, chunked.attempts = 3, 1, 7, 4
    whole.settle(Outcome.STORED)
    superseded.settle(Outcome.SUPERSEDED)
    assert not summaries
    chunked.settle(Outcome.STORED)
    (summary,) = summaries
    assert summary.pop("milliseconds") >= 0
    took = {"texts": 4, "cached": 1, "tokens": 12, "retries": 3}
    assert summary == {"items": 3, "stored": 2, "superseded": 1, **took}


def test_a_job_says_what_its_items_died_of() -> None:
    """By class and code, the most frequent first."""
    summaries: list[Summary] = []
    job = RunningJob(4, lane="live", source=None, finish=summaries.append)
    for reason in ("row/22001", "text/too_long", "text/too_long"):
        RunningItem(job, reason, 1, "x", None).settle(Outcome.DEAD, reason)
    job.settle(Outcome.DEAD, "text/empty")
    (summary,) = summaries
    assert summary["dead"] == 4
    assert causes(summary) == "2 text/too_long, 1 row/22001, 1 text/empty"


def test_an_item_is_settled_once(caplog: pytest.LogCaptureFixture) -> None:
    """A second time does not end its job before the last item."""
    summaries: list[Summary] = []
    job = RunningJob(2, lane="live", source=None, finish=summaries.append)
    first, last = (RunningItem(job, name, 1, "x", None) for name in "ab")
    first.settle(Outcome.STORED)
    first.settle(Outcome.STORED)
    assert not summaries
    assert "settled again" in caplog.text
    last.settle(Outcome.STORED)
    assert [summary["stored"] for summary in summaries] == [2]


class FakeWriter:
    """Remembers what it stored; ``check`` may raise for a row."""

    def __init__(self, check: Callable[[Row], object] = lambda _: None) -> None:
        self.check = check
        self.layout: Layout | None = None
        self.written: list[tuple[str, int]] = []
        self.batches: list[int] = []
        """Rows of each transaction."""
        self.touched: list[tuple[str, int]] = []

    async def write(self, batch: Sequence[Row]) -> set[str]:
        """Store all or raise."""
        for row in batch:
            self.check(row)
        self.written += [(row.id, row.version) for row in batch]
        self.batches.append(sum(len(row.parts) for row in batch))
        return set()

    async def touch(self, batch: Sequence[Row]) -> set[str]:
        """Touch all or raise."""
        for row in batch:
            self.check(row)
        self.touched += [(row.id, row.version) for row in batch]
        return {row.id for row in batch}


class Written:
    """A write queue above a fake writer, and what it refused."""

    def __init__(self, writer: FakeWriter) -> None:
        self.refused: list[tuple[str, int, str]] = []
        self.changed: list[RunningItem] = []
        self.stranded: list[tuple[RunningItem, Change, CollectionGone | None]] = []
        self.fail: list[Exception] = []
        self.queue = WriteQueue(
            cast("Writer", writer),
            name="docs",
            outage=Outage(),
            refused=self._refuse,
            changed=self.changed.append,
            stranded=lambda item, change, gone: self.stranded.append((item, change, gone)),
        )

    def _refuse(self, refused: RunningItem, code: str) -> None:
        if self.fail:
            raise self.fail.pop()
        self.refused.append((refused.id, refused.version, code))
        refused.settle(Outcome.DEAD)

    async def write(self, *items: tuple[RunningItem, Change]) -> None:
        """Have them written in one batch."""
        for each, change in items:
            self.queue.add(each, change)
        running = asyncio.create_task(self.queue.run())
        try:
            async with asyncio.timeout(5):
                await self.queue.finish()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def refuse_bad(row: Row) -> None:
    """As a constraint of the table."""
    if row.id == "bad" or any(part.content == "bad" for part in row.parts):
        raise RowRefused("23514")


def encode_alone(row: Row) -> None:
    """What the real writer does first."""
    encode([row], "vector")


@pytest.mark.parametrize("change", [Change.PUT, Change.TOUCH])
async def test_one_row_is_refused_alone(change: Change) -> None:
    """Of a write as of a touch."""
    written = Written(FakeWriter(refuse_bad))
    names = ["1", "2", "bad", "4", "5"]
    await written.write(*((item(name, 1, "x"), change) for name in names))
    assert written.refused == [("bad", 1, "23514")]


async def test_a_transaction_is_full_by_rows() -> None:
    """An item in many parts takes as much of it as as many items; none is torn apart."""
    writer = FakeWriter()
    written = Written(writer)
    items = [item(str(number), 1, "x") for number in range(5)]
    for each in items:
        each.parts = (Part("x", np.ones(2, np.float32)),) * (MAX_ROWS // 2 + 1)
    await written.write(*((each, Change.PUT) for each in items))
    assert sorted(writer.batches) == [251, 502, 502]


async def test_a_row_that_cannot_be_encoded_dies_alone(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of our own blocks no collection, and its words are not logged."""

    def check(row: Row) -> None:
        encode_alone(row)
        if row.id == "2":
            raise ValueError(row.parts[0].content)

    writer = FakeWriter(check)
    written = Written(writer)
    good, big, quoted = (item(name, 1, f"canary {name}") for name in "012")
    for each in (good, big, quoted):
        give_vector(each)
    big.tokens = 5_000_000_000
    with caplog.at_level(logging.DEBUG):
        await written.write((big, Change.PUT), (good, Change.PUT), (quoted, Change.PUT))
    assert written.refused == [("1", 1, "unexpected"), ("2", 1, "unexpected")]
    assert writer.written == [("0", 1)]
    assert "ValueError" in caplog.text
    assert struct.error.__name__ in caplog.text
    assert "canary" not in caplog.text


async def test_rows_that_are_named_are_not_searched_for() -> None:
    """Those that Postgres refuses by name die at once, the others are written in one more transaction."""
    batches: list[list[str]] = []

    class Naming(FakeWriter):
        async def write(self, batch: Sequence[Row]) -> set[str]:
            batches.append([row.id for row in batch])
            if missing := {row.id for row in batch if row.content_hash != content_hash("x")}:
                raise RowRefused("no_row", missing)
            return await super().write(batch)

    written = Written(writer := Naming())
    texts = {"1": "x", "2": "y", "3": "x", "4": "y", "5": "x"}
    changes = [(item(name, 2, text), Change.PUT) for name, text in texts.items()]
    await written.write(*changes, (item("2", 1, "x"), Change.PUT), (item("4", 1, None), Change.DELETE))
    assert written.refused == [("2", 2, "no_row"), ("4", 2, "no_row"), ("4", 1, "no_row")]
    assert sorted(writer.written) == [("1", 2), ("2", 1), ("3", 2), ("5", 2)]
    assert len(batches) <= 4


async def test_what_has_no_table_any_more_is_stranded() -> None:
    """With what was to become of it, and why; the registry may say that it is another collection's by now."""
    gone = CollectionGone()

    def drop(_: Row) -> None:
        raise gone

    written = Written(FakeWriter(drop))
    put, touched, deleted = item("1", 1, "x"), item("2", 1, "x"), item("3", 1, None)
    await written.write((put, Change.PUT), (touched, Change.TOUCH), (deleted, Change.DELETE))
    changes = {put: Change.PUT, touched: Change.TOUCH, deleted: Change.DELETE}
    assert {each: (change, why) for each, change, why in written.stranded} == {
        each: (change, gone) for each, change in changes.items()
    }
    assert written.refused == []


@pytest.mark.parametrize("change", [Change.PUT, Change.TOUCH])
async def test_an_older_version_takes_the_place_of_a_refused_one(change: Change) -> None:
    """The newest that Postgres takes is stored; only those below it are superseded."""
    outcomes: list[Summary] = []
    job = RunningJob(4, lane="live", source=None, finish=outcomes.append)
    writer = FakeWriter(refuse_bad)
    written = Written(writer)
    texts = ["oldest", "good", "bad", "bad"]
    items = [RunningItem(job, "1", version, text, None) for version, text in enumerate(texts)]
    for each in items:
        give_vector(each)
    await written.write(*((each, change) for each in items))
    assert written.refused == [("1", 3, "23514"), ("1", 2, "23514")]
    assert writer.written + writer.touched == [("1", 1)]
    (summary,) = outcomes
    assert (summary["superseded"], summary["dead"]) == (1, 2)


async def test_after_an_exception_only_the_unsettled_are_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was committed before it is neither written nor settled again."""
    monkeypatch.setattr(steady, "_PAUSE", 0.0)
    outcomes: list[Summary] = []
    job = RunningJob(2, lane="live", source=None, finish=outcomes.append)
    writer = FakeWriter(refuse_bad)
    written = Written(writer)
    written.fail = [RuntimeError("ours")]
    await written.write(
        (RunningItem(job, "a", 1, "x", None), Change.PUT),
        (item("bad", 1, "y"), Change.PUT),
        (RunningItem(job, "b", 1, "z", None), Change.TOUCH),
    )
    assert (writer.written, writer.touched) == ([("a", 1)], [("b", 1)])
    assert [(summary["stored"], summary["unchanged"]) for summary in outcomes] == [(1, 1)]


@asynccontextmanager
async def running(work: asyncio.Task[None]) -> AsyncIterator[None]:
    """A task while the block lasts, for at most five seconds."""
    try:
        async with asyncio.timeout(5):
            yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def letter(code: str) -> DeadLetter:
    """A dead letter."""
    return DeadLetter(collection="docs", lane="live", cause="text", code=code, payload="{}")


async def test_letters_that_are_left_are_buried_without_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails leaves them, and the next takes them up by itself."""
    monkeypatch.setattr(steady, "_PAUSE", 0.0)
    queue = BurialQueue(cast("Database", SimpleNamespace(outage=Outage())))
    failures = [RuntimeError("ours")]
    buried: list[str] = []

    async def bury(letters: Sequence[DeadLetter]) -> None:
        if failures:
            raise failures.pop()
        buried.extend(each.code for each in letters)

    monkeypatch.setattr(queue, "_bury_all", bury)
    queue.add(letter("one"), lambda: None)
    async with running(asyncio.create_task(queue.run())):
        await queue.finish()
    assert buried == ["one"]


async def test_a_letter_that_cannot_be_stored_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its message is finished, those beside it are buried, and no word of it is logged."""
    buried: list[str] = []

    async def bury(_: object, letters: Sequence[DeadLetter]) -> None:
        if any(each.code == "bad" for each in letters):
            raise ValueError("canary")
        buried.extend(each.code for each in letters)

    monkeypatch.setattr(burial_queue, "bury", bury)
    queue = BurialQueue(cast("Database", SimpleNamespace(outage=Outage())))
    finished: list[str] = []

    def failing() -> None:
        finished.append("failing")
        raise RuntimeError("ours")

    queue.add(letter("failing"), failing)
    for code in ("one", "bad", "two"):
        queue.add(letter(code), lambda code=code: finished.append(code))  # type: ignore[misc]  # a default
    async with running(asyncio.create_task(queue.run())):
        await queue.finish()
    assert buried == ["failing", "one", "two"]
    assert finished == ["failing", "one", "bad", "two"]
    assert "is lost" in caplog.text
    assert "canary" not in caplog.text
