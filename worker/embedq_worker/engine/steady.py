"""Loops that an exception of our own does not end: what hangs on them is jobs in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from embedq_worker.logs import failure, get_logger

logger = get_logger(__name__)

_PAUSE = 1.0


async def steadily(step: Callable[[], Awaitable[None]], what: str) -> NoReturn:
    """Do ``step`` for ever; an exception is logged, and after a second it goes on."""
    while True:
        try:
            await step()
        except Exception as error:
            logger.error("loop_failed", "{what} failed; it goes on: {error}", what=what, **failure(error))
            await asyncio.sleep(_PAUSE)
