"""Loops that an exception of our own does not end, and work that outlasts an absence of the database.

What hangs on them is jobs in hand.
"""

from __future__ import annotations

import asyncio
import logging
import random
import traceback
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from embedq_worker.errors import DatabaseAway

logger = logging.getLogger(__name__)

_PAUSE = 1.0
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 5.0

Result = TypeVar("Result")


async def steadily(step: Callable[[], Awaitable[None]], what: str) -> NoReturn:
    """Do ``step`` for ever; an exception is logged, and after a second it goes on."""
    while True:
        try:
            await step()
        except Exception as error:
            logger.error("%s failed; it goes on: %s", what, described(error))
            await asyncio.sleep(_PAUSE)


async def patiently(work: Callable[[], Awaitable[Result]], what: str) -> Result:
    """Do ``work`` until Postgres is there to do it; only ``DatabaseAway`` is waited out."""
    delay = _FIRST_DELAY
    while True:
        try:
            return await work()
        except DatabaseAway as error:
            if delay > 1:
                logger.warning("%s waits for the database: %s", what, error)
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - jitter
            delay = min(delay * 2, _LONGEST_DELAY)


def described(error: Exception) -> str:
    """An exception of our own for the log: its type and where it came from; its message may quote a text."""
    return f"{type(error).__name__} at\n{''.join(traceback.format_tb(error.__traceback__))}"
