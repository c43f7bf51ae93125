"""Isolation: suspects run in a process with nothing else in hand, so that a death tells which one caused it.

No input or output here; the channel does what ``step`` says. Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

TURN = 60.0
"""Seconds after which a process that runs suspects goes back to what is new: a model that is slow or paused
must not keep it from all others."""

PATIENCE = 2.0
"""Seconds that a group has for what needs no call, as deletes, before it is given back: its texts wait for
money or for a paused model."""

REST = 60.0
"""Seconds for which suspects of such a queue are left alone, unless a budget changes: to run them, a process
stops all else. After it they are tried again, since a paused model may have nobody else to try it."""

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
    _group_since: float = 0.0
    _resting: dict[str, float] = field(default_factory=dict)
    """Until when suspects of a queue are left alone."""
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
            self._since = now
        self._phase, self._group_since = _Phase.ALONE, now

    def rest(self, queues: Iterable[str], now: float) -> None:
        """The texts of these queues wait for money or for a paused model: leave their suspects alone."""
        self._resting.update(dict.fromkeys(queues, now + REST))

    def wake(self) -> None:
        """Budgets have changed: there may be money for texts that waited for it."""
        self._resting.clear()

    def runnable(self, queues: Iterable[str], now: float) -> list[str]:
        """The queues whose suspects may be run."""
        return [queue for queue in queues if now >= self._resting.get(queue, now)]

    def end(self, now: float) -> None:
        """There is no group left, or the turn is over."""
        if self._is_over(now):
            self._free_until = now + (now - self._since)
        self._phase = _Phase.FREE

    def step(self, now: float, is_empty: bool, *, is_held: bool = False) -> Step:
        """What to do.

        ``is_empty``: nothing is in hand; ``is_held``: all that is waits for money, or for a paused model.
        """
        if self._phase is _Phase.FREE:
            return Step.NOTHING
        if is_empty:
            return Step.LEAVE if self._is_over(now) else Step.TAKE
        if self._phase is _Phase.RETURNING:
            return Step.LEAVE if now - self._since > 2 * TURN else Step.NOTHING
        is_stuck = is_held and self._phase is _Phase.ALONE and now - self._group_since > PATIENCE
        if not (is_stuck or self._is_over(now)):
            return Step.NOTHING
        if self._phase is _Phase.EMPTYING:
            return Step.LEAVE
        self._phase = _Phase.RETURNING
        return Step.RETURN

    def _is_over(self, now: float) -> bool:
        return now - self._since > TURN
