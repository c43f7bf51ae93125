"""A loop that an exception of our own does not end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from embedq_worker.engine import steady


async def test_it_goes_on_after_an_exception(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And says what failed."""
    monkeypatch.setattr(steady, "_PAUSE", 0.0)
    steps = 0
    done = asyncio.Event()

    async def step() -> None:
        nonlocal steps
        steps += 1
        if steps == 1:
            raise ValueError("ours")
        done.set()
        await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR):
        loop = asyncio.create_task(steady.steadily(step, "counting"))
        async with asyncio.timeout(5):
            await done.wait()
        loop.cancel()
    assert "counting failed; it goes on" in caplog.text
