"""The ledger's guard of versions, held against a plain model.

Of all writes of an id the one with the highest (version, content hash) stands, in whatever order, company
and number they come: in the ledger as in the table. Everything between the message and the row is the real
thing but the calls, in whose place vectors are made on the spot.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embedq.contract import ENQUEUED_AT_HEADER, Versions
from embedq.testing import vector_of
from embedq_worker.cancelling import cancel_all
from embedq_worker.engine.delivery import Delivery, read_job, version_of
from embedq_worker.engine.moving.models import Models
from embedq_worker.engine.pipeline import Pipeline
from embedq_worker.engine.splitting.splitter import splitter_of
from embedq_worker.engine.summary import Summary
from embedq_worker.engine.texts import Shape, Waiter
from embedq_worker.engine.work import Outcome, RunningItem, RunningJob
from embedq_worker.limiter import Flow
from embedq_worker.settings import Settings
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection
from embedq_worker.store.dead_letters.burial import DeadLetter
from embedq_worker.store.long_texts import LongTexts
from embedq_worker.store.postgres.connections import connect
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.rows import Part, Row
from embedq_worker.store.writer import Writer

DIMENSIONS = 4
LONG, LONGER = (" ".join(f"Sentence {number} of {most}." for number in range(most)) for most in (40, 80))
MODEL = Settings().catalogue.usable("text-embedding-3-small")
EPOCH = 1_700_000_000
"""Seconds: versions of the clock count from here, a second each, so that a float holds them."""
_runs = count()


class Write(NamedTuple):
    """What a message says of an id; without a text it deletes."""

    id: str
    version: int
    text: str | None
    worker: int = 0
    pause: bool = False
    """Whether all that came before is committed first."""

    @property
    def order(self) -> tuple[int, bytes]:
        """What orders the writes of an id, said anew."""
        return self.version, b"" if self.text is None else hashlib.sha256(self.text.encode()).digest()


writes = st.lists(
    st.builds(
        Write,
        st.sampled_from("ab"),
        st.integers(0, 3),
        st.sampled_from([None, "x", "y", LONG, LONGER]),
        st.integers(0, 1),
        st.booleans(),
    ),
    max_size=14,
)


def model(written: Iterable[Write]) -> dict[str, Write]:
    """What must be stored: of each id its highest write."""
    best: dict[str, Write] = {}
    for each in written:
        if each.id not in best or each.order > best[each.id].order:
            best[each.id] = each
    return best


class Vectors:
    """In place of the dispatcher: a vector for each text, some moments later, and a count of the texts."""

    def __init__(self) -> None:
        self.asked = 0
        self._delays = random.Random(3)

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """Answer as the service would."""
        assert key == hashlib.sha256(text.encode()).digest()
        assert flow.collection == "docs"
        self.asked += 1
        vector = vector_of(text, shape.dimensions)
        delay = self._delays.random() / 1000
        asyncio.get_running_loop().call_later(delay, waiter.embedded, vector, 1, 1)


class Worker:
    """A worker process's way from a message to the rows, with connections of its own."""

    def __init__(self, database: Database, collection: Collection) -> None:
        self.vectors = Vectors()
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self._versions = collection.versions
        self._undone = 0
        self._done = asyncio.Event()
        self._moved = asyncio.Event()
        self._pipeline = Pipeline(
            Models(collection, MODEL, self.vectors), database=database, bury=self._bury, look=self._look
        )

    def _bury(self, letter: DeadLetter, _: object) -> None:
        raise AssertionError(f"nothing may die here: {letter.cause} {letter.code}")

    async def _look(self) -> bool:
        raise AssertionError("nothing moves here")

    def take(self, prefix: str, each: Write) -> None:
        """Take a message of one item, in the collection's mode of versions."""
        item: dict[str, Any] = {"id": prefix + each.id, "metadata": metadata_of(each)}
        item |= {"deleted": True} if each.text is None else {"text": each.text}
        headers: dict[str, Any] = {}
        if self._versions == "given":
            item["version"] = each.version
        else:
            headers[ENQUEUED_AT_HEADER] = float(EPOCH + each.version)
        job = {"v": 1, "collection": "docs", "items": [item]}
        delivery = Delivery("", "embedq.docs", {"job": job}, headers, self._finished)
        (good,) = read_job(delivery, self._versions).good
        running = RunningJob(1, lane="live", source=None, finish=delivery.finish)
        text = None if good.deleted else good.text
        self._undone += 1
        self._done.clear()
        self._pipeline.take(RunningItem(running, good.id, version_of(good, delivery), text, good.metadata))

    def _finished(self, summary: Summary) -> None:
        for outcome in Outcome:
            self.outcomes[outcome] += summary.get(outcome, 0)
        self._undone -= 1
        self._moved.set()
        if not self._undone:
            self._done.set()

    async def make_room(self, most: int) -> None:
        """Wait until no more than ``most`` are not committed."""
        while self._undone > most:
            self._moved.clear()
            await asyncio.wait_for(self._moved.wait(), 20)

    async def settle(self) -> None:
        """Wait until everything taken is committed."""
        if self._undone:
            await asyncio.wait_for(self._done.wait(), 20)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the block lasts."""
        self._pipeline.start()
        try:
            yield
        finally:
            await cancel_all(self._pipeline.tasks)


def metadata_of(each: Write) -> dict[str, Any]:
    """Metadata that tell who wrote, so that the row can be held against its write."""
    return {"version": each.version, "text": each.text}


class Fleet:
    """Two workers on one collection, and what is stored of a run's ids."""

    def __init__(self, database_url: str, versions: Versions, long_texts: LongTexts | None = None) -> None:
        self._url = database_url
        with connect(database_url) as connection:
            self.collection = create_collection(
                connection,
                name="docs",
                model=MODEL,
                dimensions=DIMENSIONS,
                versions=versions,
                long_texts=long_texts,
            )
        self._splitter = splitter_of(self.collection, MODEL)

    @asynccontextmanager
    async def workers(self) -> AsyncIterator[list[Worker]]:
        """Two running workers, each with its own connections to Postgres."""
        databases = [Database(self._url, connections=3) for _ in range(2)]
        for database in databases:
            await database.open()
        try:
            first, second = (Worker(database, self.collection) for database in databases)
            async with first.running(), second.running():
                yield [first, second]
        finally:
            for database in databases:
                await database.close()

    def stored_version(self, version: int) -> int:
        """A write's version as it is stored."""
        return version if self.collection.versions == "given" else (EPOCH + version) * 1_000_000

    def parts(self, each: Write) -> list[str]:
        """The contents of a write's rows."""
        if each.text is None:
            return []
        return [each.text] if self._splitter is None else self._splitter.split(each.text)

    def check(self, prefix: str, written: Sequence[Write]) -> None:
        """Hold ledger and table against the model."""
        expected = model(written)
        with psycopg.connect(self._url) as connection:
            ledger = connection.execute(
                "SELECT id, version, content_hash, chunks, deleted_at IS NULL, embedded_at IS NULL"
                " FROM embedq.item WHERE starts_with(id, %s) ORDER BY id",
                (prefix,),
            ).fetchall()
            rows = connection.execute(
                "SELECT id, chunk, content, version, metadata, embedding::real[] FROM docs"
                " WHERE starts_with(id, %s) ORDER BY id, chunk",
                (prefix,),
            ).fetchall()
        alive = {item_id: each for item_id, each in sorted(expected.items()) if each.text is not None}
        assert [(*row[:2], bytes(row[2]), *row[3:]) for row in ledger] == [
            (
                prefix + item_id,
                self.stored_version(each.version),
                each.order[1],
                len(self.parts(each)),
                item_id in alive,
                item_id not in alive,
            )
            for item_id, each in sorted(expected.items())
        ]
        assert [row[:5] for row in rows] == [
            (prefix + item_id, chunk, content, self.stored_version(each.version), metadata_of(each))
            for item_id, each in alive.items()
            for chunk, content in enumerate(self.parts(each))
        ]
        for row in rows:
            assert np.array_equal(np.array(row[5], np.float32), vector_of(row[2], DIMENSIONS))


@pytest.mark.parametrize(("versions", "chunked"), [("clock", False), ("given", False), ("given", True)])
def test_any_order_ends_in_the_same_rows(database_url: str, versions: Versions, chunked: bool) -> None:
    """Puts, touches and deletes of few ids, doubled and shuffled, over two workers, with commits between.

    Where long texts are chunked, an id's rows are its last text's, however many others had.
    """
    fleet = Fleet(database_url, versions, LongTexts("chunk", 64) if chunked else None)
    assert (1 < len(fleet.parts(Write("a", 1, LONG))) < len(fleet.parts(Write("a", 1, LONGER)))) == chunked
    with asyncio.Runner() as runner:
        context = fleet.workers()
        workers = runner.run(context.__aenter__())

        async def write(prefix: str, sequence: Sequence[Write]) -> None:
            for each in sequence:
                if each.pause:
                    await asyncio.gather(*(worker.settle() for worker in workers))
                workers[each.worker].take(prefix, each)
            await asyncio.gather(*(worker.settle() for worker in workers))

        @settings(
            max_examples=50 if chunked else 100,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(writes)
        @example([Write("a", 1, "x"), Write("a", 2, None, 0, True), Write("a", 1, "x", 1, True)])
        @example([Write("a", 1, "x"), Write("a", 2, "x", 0, True), Write("a", 2, "y", 1), Write("a", 3, "x")])
        @example([Write("a", 1, LONG), Write("a", 2, LONGER, 1), Write("a", 3, "x", 0, True)])
        @example([Write("a", 1, None), Write("a", 1, "x", 1), Write("a", 1, None, 0, True)])
        def check(sequence: list[Write]) -> None:
            prefix = f"{next(_runs)}-"
            runner.run(write(prefix, sequence))
            fleet.check(prefix, sequence)

        try:
            check()
        finally:
            runner.run(context.__aexit__(None, None, None))


async def test_two_workers_race_over_the_same_ids(database_url: str) -> None:
    """Thirty rounds of their own ids, a few writes at a time in the hands of each."""
    fleet = Fleet(database_url, "given")
    rng = random.Random(11)
    everything: dict[str, list[Write]] = {}
    async with fleet.workers() as workers:
        for _ in range(30):
            prefix = f"{next(_runs)}-"
            sequence = [
                Write(item_id, version, rng.choice([None, "x", "x", "y"]))
                for item_id in "abcde"
                for version in range(8)
                for _ in range(2)
            ]
            rng.shuffle(sequence)
            everything[prefix] = sequence
            for each in sequence:
                worker = workers[rng.randrange(2)]
                await worker.make_room(5)
                worker.take(prefix, each)
        await asyncio.gather(*(worker.settle() for worker in workers))
        outcomes = {name: sum(worker.outcomes[name] for worker in workers) for name in Outcome}
    for prefix, sequence in everything.items():
        fleet.check(prefix, sequence)
    assert sum(outcomes.values()) == sum(map(len, everything.values()))
    assert all(outcomes[name] for name in set(Outcome) - {Outcome.DEAD, Outcome.WITHDRAWN}), outcomes


async def test_unchanged_texts_cost_no_vector(database_url: str) -> None:
    """In whatever order their versions come: one call for each text, and the highest version."""
    fleet = Fleet(database_url, "given")
    sequence = [Write(item_id, version, f"text {item_id}") for item_id in "abcd" for version in range(10)]
    async with fleet.workers() as workers:
        for item_id in "abcd":
            workers[0].take("1-", Write(item_id, 0, f"text {item_id}"))
        await workers[0].settle()
        random.Random(5).shuffle(sequence)
        for number, each in enumerate(sequence):
            workers[number % 2].take("1-", each)
        await asyncio.gather(*(worker.settle() for worker in workers))
        assert sum(worker.vectors.asked for worker in workers) == 4
    fleet.check("1-", sequence)


def row(item_id: str, version: int, text: str | None) -> Row:
    """A row for the writer."""
    if text is None:
        return Row(item_id, version, b"")
    digest = hashlib.sha256(text.encode()).digest()
    return Row(item_id, version, digest, (Part(text, vector_of(text, DIMENSIONS)),), b'{"k": 1}')


async def test_a_touch_that_waits_sees_what_was_committed(database_url: str) -> None:
    """It waits for a write's lock, and finds another text, a tombstone, or another version of the same."""
    fleet = Fleet(database_url, "given")
    database = Database(database_url, connections=3)
    await database.open()
    writer = Writer(database, fleet.collection)
    cases: list[tuple[tuple[int, str | None], bool]] = [
        ((2, "y"), False),
        ((2, None), False),
        ((5, "x"), False),
        ((2, "x"), True),
    ]
    for number, ((version, text), holds) in enumerate(cases):
        item_id = str(number)
        assert await writer.write([row(item_id, 1, "x")]) == set()
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute(
                "UPDATE embedq.item SET version = %s, content_hash = %s, deleted_at = %s WHERE id = %s",
                (version, row(item_id, version, text).content_hash, "now" if text is None else None, item_id),
            )
            touching = asyncio.create_task(writer.touch([row(item_id, 3, "x")]))
            await until_blocked(other)
            await other.commit()
        assert await touching == ({item_id} if holds else set())
        with psycopg.connect(database_url) as connection:
            found = connection.execute("SELECT version FROM embedq.item WHERE id = %s", (item_id,)).fetchone()
        assert found == (3 if holds else version,)
    await database.close()


async def until_blocked(holder: psycopg.AsyncConnection[Any]) -> None:
    """Wait until somebody waits for a lock of ``holder``."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    async with asyncio.timeout(10):
        async with await psycopg.AsyncConnection.connect(holder.info.dsn, autocommit=True) as watcher:
            while await (await watcher.execute(query, (holder.info.backend_pid,))).fetchone() == (0,):
                await watcher.execute("SELECT pg_sleep(0.01)")
