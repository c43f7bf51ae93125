"""Isolation: suspects run in a process with nothing else in hand, so that a death tells which one caused it.

No input or output here; the channel does what ``step`` says. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

TURN = 60.0
"""Seconds after which a process that runs suspects goes back to what is new: a model that is slow or paused
must not keep it from all others."""

ASK_AGAIN = 1.0
"""Seconds until a claim that was denied is made again."""


class Step(Enum):
    """What to do now."""

    NOTHING = auto()
    TAKE = auto()
    """Take the next group."""
    RETURN = auto()
    """Let calls in flight end, and give back the rest."""
    LEAVE = auto()
    """Give up the claim and fetch what is new."""


class _Phase(Enum):
    FREE = auto()
    EMPTYING = auto()
    ALONE = auto()
    RETURNING = auto()


@dataclass(slots=True)
class Isolation:
    """Whether this process runs suspects."""

    _phase: _Phase = _Phase.FREE
    _since: float = 0.0
    _free_until: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether nothing new may be fetched."""
        return self._phase is not _Phase.FREE

    def may_begin(self, now: float) -> bool:
        """Whether this process may claim suspects: after a turn that was cut short it owes others as long."""
        return self._phase is _Phase.FREE and now >= self._free_until

    def denied(self, now: float) -> None:
        """Its claim was not granted: there is nothing for it, or enough others are at it."""
        self._free_until = now + ASK_AGAIN

    def begin(self, now: float) -> None:
        """Its claim was granted: empty the hands."""
        self._phase, self._since = _Phase.EMPTYING, now

    def taken(self, now: float) -> None:
        """It has a group in hand; its turn begins with the first."""
        if self._phase is _Phase.EMPTYING:
            self._phase, self._since = _Phase.ALONE, now

    def end(self, now: float) -> None:
        """There is no group left, or the turn is over."""
        if self._is_over(now):
            self._free_until = now + (now - self._since)
        self._phase = _Phase.FREE

    def step(self, now: float, is_empty: bool) -> Step:
        """What to do, as ``is_empty`` says whether nothing is in hand."""
        if self._phase is _Phase.FREE:
            return Step.NOTHING
        if is_empty:
            return Step.LEAVE if self._is_over(now) else Step.TAKE
        if self._phase is _Phase.RETURNING:
            return Step.LEAVE if now - self._since > 2 * TURN else Step.NOTHING
        if not self._is_over(now):
            return Step.NOTHING
        if self._phase is _Phase.EMPTYING:
            return Step.LEAVE
        self._phase = _Phase.RETURNING
        return Step.RETURN

    def _is_over(self, now: float) -> bool:
        return now - self._since > TURN
