"""Patience with the model that a collection moves to or came from: how long an item waits for its vector."""

from __future__ import annotations

from math import inf
from time import monotonic

LEAST = 0.5
"""Seconds that an item whose own vectors have come waits at least. Too short writes many rows twice, too long
delays every write while the other model hangs."""
MOST = 5.0
"""Seconds that it waits at most: of a model that is later, rows are stored without its vector and filled."""
_ROOM = 1.5
"""An answer may take so many times as long as those before it."""
_FORGET = 0.98
"""What an answer that is earlier leaves of the delay that is reckoned with."""
_STALE = 10.0
"""Seconds without an answer after which the model may hang, and what it did before counts no more."""


class Patience:
    """Follows how much later than the collection's own model the other one answers.

    A model that is steadily slower is waited for, so that rows are whole as they are stored: else there would
    always be some that lack its vector, and no moment at which to switch.
    """

    def __init__(self) -> None:
        self._delay = 0.0
        self._heard = -inf

    def learn(self, delay: float) -> None:
        """The other model has answered, ``delay`` seconds after the own one; 0 where it was first."""
        self._delay = 0.0 if delay > MOST else max(delay, self._delay * _FORGET)
        self._heard = monotonic()

    @property
    def seconds(self) -> float:
        """How long to wait now."""
        if monotonic() - self._heard > _STALE:
            return LEAST
        return min(MOST, max(LEAST, self._delay * _ROOM))
