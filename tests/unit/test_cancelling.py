"""Tasks are ended for certain."""

from __future__ import annotations

import asyncio

import pytest

from embedq_worker.cancelling import cancel_all, finish_or_end


async def _wait_for_ever(ends: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ends.append("ended")


async def test_work_that_fails_says_so() -> None:
    """To who waits for it."""

    async def fail() -> None:
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        await finish_or_end(fail(), lambda: False)


async def test_work_in_vain_is_ended() -> None:
    """As soon as it is."""
    ends: list[str] = []
    await asyncio.wait_for(finish_or_end(_wait_for_ever(ends), lambda: True), 5)
    assert not ends  # it was not begun
    answers = iter([False, True])
    await asyncio.wait_for(finish_or_end(_wait_for_ever(ends), lambda: next(answers)), 5)
    assert ends == ["ended"]


async def test_work_ends_with_who_waits_for_it() -> None:
    """It must not go on while what it uses is closed."""
    ends: list[str] = []
    waiting = asyncio.create_task(finish_or_end(_wait_for_ever(ends), lambda: False))
    await asyncio.sleep(0.01)
    assert not ends
    await cancel_all([waiting])
    assert ends == ["ended"]
