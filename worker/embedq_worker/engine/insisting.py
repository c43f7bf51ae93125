"""Doing something with Postgres until Postgres does it: what is in hand is kept meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from embedq_worker.errors import DatabaseAway, StoreError
from embedq_worker.store.postgres.outage import Outage

_FIRST_DELAY = 0.05
_LONGEST_DELAY = 5.0
Result = TypeVar("Result")


async def insist(
    work: Callable[[], Awaitable[Result]],
    what: str,
    outage: Outage,
    *,
    also: type[StoreError] = DatabaseAway,
    alone: bool = False,
) -> Result:
    """Do ``work`` until the database is not away, nor in the way of ``also``.

    ``what`` names it for people; where rights are missing, it waits ``alone``: others have theirs.
    Raises what ``work`` raises otherwise.
    """
    delay = _FIRST_DELAY
    while True:
        try:
            result = await work()
        except (DatabaseAway, also) as error:
            outage.failed(what, error, alone=alone)
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - jitter
            delay = min(delay * 2, _LONGEST_DELAY)
        except Exception:  # an answer too; a cancellation is none
            outage.over(what)
            raise
        else:
            outage.over(what)
            return result
