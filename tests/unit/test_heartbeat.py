"""The heartbeat beside the threads that ask it to hurry."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from embedq_worker.intake.heartbeat import Heartbeat


async def _beat_for_a_moment(heartbeat: Heartbeat) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await heartbeat.run()


def test_hurrying_after_the_end_does_nothing(unused_tcp_port: int) -> None:
    """A stopping process reads its last fetch when the loop of the beat is closed."""
    url = f"redis://127.0.0.1:{unused_tcp_port}/0"
    heartbeat = Heartbeat(url, "a process", 6.0, on_taken_over=lambda: None)
    asyncio.run(_beat_for_a_moment(heartbeat))
    heartbeat.hurry()
