"""The cache before a dispatcher, on a real database: what it asks for, when, and what it tells who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import psycopg
import pytest

from embedq_worker.cancelling import cancel_all
from embedq_worker.engine.cache.claimant import Claimant
from embedq_worker.engine.cache.queue import CacheQueue
from embedq_worker.engine.cache.vector_cache import VectorCache
from embedq_worker.engine.texts import Shape, Waiter
from embedq_worker.engine.work import Vector, content_hash
from embedq_worker.errors import BadInput, NotCalled, RowRefused
from embedq_worker.limiter import Flow
from embedq_worker.store.postgres.database import Database
from embedq_worker.store.vector_cache import Kind
from tests.support.dispatching import BULK, LIVE, SHAPE, settled
from tests.support.dispatching import Waiter as SilentWaiter

VECTOR = np.ones(4, np.float32)
GONE = NotCalled("abandoned", "nobody waits")


@dataclass
class Asked:
    """In the dispatcher's place: keeps what it is asked, and the test answers."""

    asked: list[tuple[str, Flow, Waiter]] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """Keep it."""
        assert (key, shape) == (content_hash(text), SHAPE)
        self.asked.append((text, flow, waiter))
        self._arrived.set()

    async def until(self, count: int) -> Waiter:
        """Wait until it was asked ``count`` times in all; the last one who waits."""
        async with asyncio.timeout(10):
            while len(self.asked) < count:
                self._arrived.clear()
                await self._arrived.wait()
        assert len(self.asked) == count
        return self.asked[-1][2]


class Told(SilentWaiter):
    """Waits for one vector, and can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.was_told = asyncio.Event()

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        """It has come."""
        super().embedded(vector, tokens, attempts)
        self.was_told.set()


class Process:
    """One process' cache of one kind."""

    def __init__(self, database: Database, life: float) -> None:
        self.asked = Asked()
        self.claimant = Claimant(database, life)
        self.queue = CacheQueue(database, self.claimant)
        kind = Kind("m", "{}")
        self.cache = VectorCache(
            kind, self.asked, database=database, claimant=self.claimant, queue=self.queue
        )

    def ask(self, text: str = "a text", flow: Flow = BULK) -> Told:
        """Want a text's vector."""
        told = Told()
        self.cache.ask(content_hash(text), text, SHAPE, flow, told)
        return told


@asynccontextmanager
async def processes(url: str, count: int = 1, life: float = 60.0) -> AsyncIterator[list[Process]]:
    """As many processes, at work."""
    database = Database(url, connections=4)
    await database.open()
    started = [Process(database, life) for _ in range(count)]
    works = [work.run() for each in started for work in (each.claimant, each.queue, each.cache)]
    tasks = [asyncio.create_task(work) for work in works]
    yield started
    await cancel_all(tasks)
    await database.close()


async def test_who_comes_between_answer_and_cache_is_served(database_url: str) -> None:
    """The vector is not in the cache yet, and is not asked for again."""
    async with processes(database_url) as [one]:
        first = one.ask()
        asked = await one.asked.until(1)
        asked.embedded(VECTOR, 5, 1)
        second = one.ask()
        await one.queue.finish()
        third = one.ask()
        await third.was_told.wait()
        await one.asked.until(1)

    assert (first.tokens, second.tokens, third.tokens) == ([5], [0], [0])
    assert (first.attempts, third.attempts) == (1, 0)


async def test_who_comes_while_a_claim_is_given_up_claims_anew(database_url: str) -> None:
    """The claim that it makes is not the one that is being given up: another process waits for it."""
    async with processes(database_url, 2) as [one, two]:
        first = one.ask()
        (await one.asked.until(1)).refused(BadInput(400), 1)
        second = one.ask()
        asked = await one.asked.until(2)
        waiting = two.ask()
        await two.queue.finish()
        asked.embedded(VECTOR, 5, 1)
        await waiting.was_told.wait()

    assert (len(first.errors), second.tokens, waiting.tokens) == (1, [5], [0])
    assert two.asked.asked == []


async def test_a_claim_that_was_lost_is_not_called_for(database_url: str) -> None:
    """The dispatcher lets go of it when its turn comes, and it is claimed again."""
    async with processes(database_url, life=0.5) as [one]:
        first = one.ask()
        asked = await one.asked.until(1)
        before = asked.is_gone
        one.claimant.renounce(RowRefused("XX000"))
        assert (before, asked.is_gone) == (False, True)
        asked.refused(GONE, 0)
        again = await one.asked.until(2)
        assert not again.is_gone
        again.embedded(VECTOR, 5, 1)

    assert (first.tokens, first.errors) == ([5], [])


async def test_a_live_text_brings_a_bulk_one_forward(database_url: str) -> None:
    """The dispatcher is asked a second time, by the earlier lane; nobody is told twice."""
    async with processes(database_url) as [one]:
        first = one.ask(flow=BULK)
        await one.asked.until(1)
        second = one.ask(flow=LIVE)
        third = one.ask(flow=LIVE)
        await one.asked.until(2)
        for _, _, waiter in one.asked.asked:
            waiter.embedded(VECTOR, 5, 1)

    assert [flow for _, flow, _ in one.asked.asked] == [BULK, LIVE]
    assert (first.tokens, second.tokens, third.tokens) == ([5], [0], [0])


async def test_only_those_who_wait_no_more_are_let_go(database_url: str) -> None:
    """A text is given up with the last one who waits for it."""
    async with processes(database_url) as [one]:
        gone, left = one.ask(), one.ask()
        asked = await one.asked.until(1)
        gone.is_gone = True
        one.cache.let_go()
        await settled()
        assert (len(gone.errors), left.is_waiting, asked.is_gone) == (1, True, False)
        left.is_gone = True
        assert asked.is_gone
        asked.refused(GONE, 0)
        assert len(left.errors) == 1


async def test_who_waits_for_another_process_is_let_go_at_once(database_url: str) -> None:
    """Whatever that is doing; who comes later has the vector."""
    async with processes(database_url, 2) as [one, two]:
        one.ask()
        asked = await one.asked.until(1)
        gone = two.ask()
        await two.claimant.term()
        gone.is_gone = True
        two.cache.let_go()
        assert len(gone.errors) == 1
        asked.embedded(VECTOR, 5, 1)
        later = two.ask()
        await later.was_told.wait()

    assert (later.tokens, two.asked.asked) == ([0], [])


async def test_an_absence_of_the_database_is_waited_out(database_url: str) -> None:
    """Who waits has the vector at once; it is kept later, and the look-ups are made later."""
    with psycopg.connect(database_url, autocommit=True) as other:
        async with processes(database_url) as [one]:
            first = one.ask("first")
            asked = await one.asked.until(1)
            with other.transaction():
                other.execute("LOCK TABLE embedq.vector_cache")  # for 2 s waited for, then an absence
                asked.embedded(VECTOR, 5, 1)
                assert first.tokens == [5]
                one.ask("second")
                await until_refused(other)
                await one.asked.until(1)
            await one.asked.until(2)
            await one.queue.finish()
        kept = other.execute("SELECT vector IS NOT NULL, tokens FROM embedq.vector_cache ORDER BY 1")
        assert kept.fetchall() == [(False, None), (True, 5)]


async def until_refused(connection: psycopg.Connection) -> None:
    """Until writing or looking up, which wait now, was given up and begun anew."""
    seen: set[object] = set()
    async with asyncio.timeout(10):
        while len(seen) < 3:
            waiting = connection.execute("SELECT virtualtransaction FROM pg_locks WHERE NOT granted")
            seen.update(waiting.fetchall())
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("table", ["vector_cache", "vector_claimant"])
async def test_a_refusal_loses_no_vector(
    database_url: str, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever of the cache fails meanwhile: vectors reach who waits, and it is said once, without texts."""
    async with processes(database_url) as [one]:
        first = one.ask("before")
        asked = await one.asked.until(1)
        async with one.cache._database.connection() as connection:
            await connection.execute(f"DROP TABLE embedq.{table}".encode())
        asked.embedded(VECTOR, 5, 1)
        await one.queue.finish()
        others = [one.ask(f"after {number}") for number in range(3)]
        await one.asked.until(4)
        for _, _, waiter in one.asked.asked[1:]:
            waiter.embedded(VECTOR, 5, 1)

    assert all(each.tokens == [5] for each in (first, *others))
    said = [record for record in caplog.records if "cannot be used" in record.getMessage()]
    assert len(said) == 1
    assert "after" not in caplog.text
