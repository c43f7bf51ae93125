"""Loops that an exception of our own does not end: what hangs on them is jobs in hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

logger = logging.getLogger(__name__)

_PAUSE = 1.0


async def steadily(step: Callable[[], Awaitable[None]], what: str) -> NoReturn:
    """Do ``step`` for ever; an exception is logged, and after a second it goes on."""
    while True:
        try:
            await step()
        except Exception:
            logger.exception("%s failed; it goes on", what)
            await asyncio.sleep(_PAUSE)
