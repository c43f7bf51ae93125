"""A watch: who asks waits shortly, and what they did not wait for is there when they ask again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from embedq_worker.engine.monitoring.watch import Watch


class Looks:
    """Looks that end when they may."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.begun = self.ended = 0

    async def look(self) -> None:
        """One of them."""
        self.begun += 1
        await self.may_end.wait()
        self.ended += 1

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for it, 5 seconds at most."""
        async with asyncio.timeout(5):
            while not is_so():  # noqa: ASYNC110  # looks are counted, not announced
                await asyncio.sleep(0.001)


@asynccontextmanager
async def watching(watch: Watch) -> AsyncIterator[Watch]:
    """End it afterwards."""
    try:
        yield watch
    finally:
        for task in watch.tasks:
            task.cancel()
        await asyncio.gather(*watch.tasks, return_exceptions=True)


async def test_who_asks_waits_for_a_quick_look_and_shares_it() -> None:
    """And who asks again at once is content with it."""
    looks = Looks()
    looks.may_end.set()
    async with watching(Watch(looks.look)) as watch:
        await asyncio.gather(watch.ask(), watch.ask())
        await watch.ask()
        assert (looks.begun, looks.ended) == (1, 1)


async def test_nobody_waits_long_for_a_server_that_hangs() -> None:
    """And only one look hangs with it."""
    looks = Looks()
    async with watching(Watch(looks.look, every=0, patience=0.01)) as watch:
        async with asyncio.timeout(5):
            await watch.ask()
            await watch.ask()
        assert (looks.begun, looks.ended) == (1, 0)


async def test_what_is_slow_is_looked_at_again_before_somebody_asks_again() -> None:
    """Pages come rarely, and a look is slower than a page waits: its end must not be too old at the next."""
    looks = Looks()
    async with watching(Watch(looks.look, every=0.001, patience=0.001)) as watch:
        await watch.ask()
        assert looks.ended == 0
        looks.may_end.set()
        await looks.until(lambda: looks.ended > 2)


async def test_what_nobody_asks_for_is_not_looked_at_for_ever() -> None:
    """The servers have other things to do; whoever asks later has it looked at anew."""
    looks = Looks()
    looks.may_end.set()
    async with watching(Watch(looks.look, every=0, interest=0.02)) as watch:
        await watch.ask()
        await looks.until(lambda: not watch.tasks)
        begun = looks.begun
        await watch.ask()
        assert looks.begun > begun


async def test_what_is_looked_at_rarely_can_be_hurried() -> None:
    """Where what was seen is known to be out of date; and it is once."""
    looks = Looks()
    looks.may_end.set()
    async with watching(Watch(looks.look, every=60, soonest=0.001)) as watch:
        await watch.ask()
        await asyncio.sleep(0.01)
        assert looks.begun == 1
        watch.hurry()
        await looks.until(lambda: looks.begun == 2)
        await asyncio.sleep(0.01)
        assert looks.begun == 2


async def test_a_hurried_look_comes_not_at_once() -> None:
    """Collections that are made and dropped all the time would have the database count all the time."""
    looks = Looks()
    looks.may_end.set()
    async with watching(Watch(looks.look, every=60, soonest=30)) as watch:
        await watch.ask()
        watch.hurry()
        await asyncio.sleep(0.01)
        assert looks.begun == 1
