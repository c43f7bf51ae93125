"""What keeps Postgres from serving: for the log, and for the probe of readiness."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from embedq_worker.errors import DatabaseBusy, StoreError

logger = logging.getLogger(__name__)

_BUSY_FOR = 2.0
"""Seconds after which it is worth a word that others are in the way."""
_FIRST_INTERVAL = 15.0
_LONGEST_INTERVAL = 600.0
"""Seconds between two words about the same outage; each interval is twice the one before."""


class _Trouble(NamedTuple):
    since: float
    error: StoreError


class Outage:
    """What waits for Postgres, and why.

    Many wait for the same reason: one of them says so at once, then at growing intervals, then that it is
    over.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}
        self._said: str | None = None
        self._said_since = 0.0
        self._say_again_at = 0.0
        self._interval = _FIRST_INTERVAL

    @property
    def reason(self) -> str | None:
        """Why nothing can be read or written; None where something can, or others are merely in the way."""
        for trouble in self._troubles.values():
            if not isinstance(trouble.error, DatabaseBusy):
                return str(trouble.error)
        return None

    def failed(self, work: str, error: StoreError) -> None:
        """``work`` waits: it failed with this error and will be tried again."""
        now = self._clock()
        since = self._troubles[work].since if work in self._troubles else now
        self._troubles[work] = _Trouble(since, error)
        if not isinstance(error, DatabaseBusy) or now - since >= _BUSY_FOR:
            self._say(f"{work} waits: {error}", str(error), since, now)

    def over(self, work: str) -> None:
        """``work`` was done, or nobody wants it any more."""
        if self._troubles.pop(work, None) is not None and not self._troubles and self._said is not None:
            lasted = self._clock() - self._said_since
            logger.warning("the database serves again after %.0f s; what waited goes on", lasted)
            self._said = None

    def _say(self, what: str, reason: str, since: float, now: float) -> None:
        if self._said is None:
            self._said_since = since
        if reason != self._said:
            self._interval = _FIRST_INTERVAL
        elif now < self._say_again_at:
            return
        logger.warning("%s", what)
        self._said = reason
        self._say_again_at = now + self._interval
        self._interval = min(self._interval * 2, _LONGEST_INTERVAL)
