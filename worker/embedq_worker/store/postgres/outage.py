"""What keeps Postgres from serving: for the log, and for the probe of readiness."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from embedq_worker.errors import CollectionGone, DatabaseBusy, NotMigrated, RightsMissing, StoreError
from embedq_worker.logs import get_logger
from embedq_worker.metrics.servers import POSTGRES_ERRORS

logger = get_logger(__name__)

_BUSY_FOR = 2.0
"""Seconds after which it is worth a word that others are in the way."""
_FIRST_INTERVAL = 15.0
_LONGEST_INTERVAL = 600.0
"""Seconds between two words about the same outage; each interval is twice the one before."""


class _Trouble(NamedTuple):
    since: float
    error: StoreError
    is_alone: bool
    """Whether only its work waits: it lacks rights that others have."""


class _Matter:
    """What is said of one outage: at once, at growing intervals, and when it is over."""

    def __init__(self, since: float) -> None:
        self.since = since
        self._said: str | None = None
        self._say_again_at = 0.0
        self._interval = _FIRST_INTERVAL

    def say(self, work: str, reason: str, now: float) -> None:
        if reason != self._said:
            self._interval = _FIRST_INTERVAL
        elif now < self._say_again_at:
            return
        logger.warning("database_waited_for", "{work} waits: {reason}", work=work, reason=reason)
        self._said = reason
        self._say_again_at = now + self._interval
        self._interval = min(self._interval * 2, _LONGEST_INTERVAL)


class Outage:
    """What waits for Postgres, and why.

    Many wait for the same reason: one of them says so at once, then at growing intervals, then that it is
    over. Who waits alone speaks for itself, and is no outage of the database.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}
        self._common: _Matter | None = None
        self._lonely: dict[str, _Matter] = {}

    @property
    def reason(self) -> str | None:
        """Why nothing can be read or written; None where something can, or others are merely in the way.

        From any thread.
        """
        for trouble in list(self._troubles.values()):
            if not (trouble.is_alone or isinstance(trouble.error, DatabaseBusy)):
                return str(trouble.error)
        return None

    @property
    def lacks_schema(self) -> bool:
        """Whether anything waits for tables of embedq's own: they come with `embedq migrate`, or never."""
        missing = NotMigrated, CollectionGone
        return any(isinstance(trouble.error, missing) for trouble in self._troubles.values())

    def lacks_rights(self, work: str) -> bool:
        """Whether ``work`` waits alone, for rights."""
        return work in self._troubles and self._troubles[work].is_alone

    def failed(self, work: str, error: StoreError, *, alone: bool = False) -> None:
        """``work`` waits: it failed with this error and will be tried again.

        ``alone``: if rights are missing, then on what no other work needs.
        """
        now = self._clock()
        since = self._troubles[work].since if work in self._troubles else now
        trouble = self._troubles[work] = _Trouble(since, error, alone and isinstance(error, RightsMissing))
        if not (trouble.is_alone or isinstance(error, DatabaseBusy)):
            POSTGRES_ERRORS.inc()
        if trouble.is_alone:
            matter = self._lonely.setdefault(work, _Matter(since))
        elif not isinstance(error, DatabaseBusy) or now - since >= _BUSY_FOR:
            matter = self._common = self._common or _Matter(since)
        else:
            return
        matter.say(work, str(error), now)

    def over(self, work: str) -> None:
        """``work`` was done, or nobody wants it any more."""
        if self._troubles.pop(work, None) is None:
            return
        now = self._clock()
        if (matter := self._lonely.pop(work, None)) is not None:
            sentence = "{work} waits no more, after {seconds:.0f} s"
            logger.warning("rights_granted", sentence, work=work, seconds=now - matter.since)
        if self._common is not None and all(each.is_alone for each in self._troubles.values()):
            sentence = "the database serves again after {seconds:.0f} s; what waited goes on"
            logger.warning("database_back", sentence, seconds=now - self._common.since)
            self._common = None
