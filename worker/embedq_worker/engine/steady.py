"""Loops that an exception of our own does not end: what hangs on them is jobs in hand."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import NoReturn

logger = logging.getLogger(__name__)

_PAUSE = 1.0


async def steadily(step: Callable[[], Awaitable[None]], what: str) -> NoReturn:
    """Do ``step`` for ever; an exception is logged, and after a second it goes on."""
    while True:
        try:
            await step()
        except Exception as error:
            logger.error("%s failed; it goes on: %s", what, described(error))
            await asyncio.sleep(_PAUSE)


def described(error: Exception) -> str:
    """An exception of our own for the log: its type and where it came from; its message may quote a text."""
    return f"{type(error).__name__} at\n{''.join(traceback.format_tb(error.__traceback__))}"
