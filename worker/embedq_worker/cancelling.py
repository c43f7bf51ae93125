"""Ending asyncio tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

_ONCE_MORE = 0.5
_LOOK_AGAIN = 0.1
"""Seconds between two looks whether something is in vain."""


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: a cancellation may be swallowed.

    Python 3.11's ``asyncio.wait_for`` does so where what it waits for comes just then. By it psycopg's pool
    waits for a connection, and redis-py for a connection to open.

    What they raised is not looked at.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_ONCE_MORE)
        for task in ended:
            if not task.cancelled():
                task.exception()


async def finish_or_end(work: Coroutine[Any, Any, None], is_vain: Callable[[], bool]) -> None:
    """Do ``work``, and raise what it does. Where it is in vain, or we are cancelled, it is ended."""
    task = asyncio.create_task(work)
    try:
        while not (task.done() or is_vain()):
            await asyncio.wait({task}, timeout=_LOOK_AGAIN)
        if task.done():
            await task
    finally:
        await cancel_all([task])
