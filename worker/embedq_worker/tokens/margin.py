"""How far requests' tokens were above their estimates of late."""

from __future__ import annotations

_LEAST, _FIRST, _MOST = 0.015, 0.08, 0.12
_DEVIATIONS = 5.0
"""Of the one-sided root mean square: 3.5 standard deviations where errors fall on both sides alike."""
_RECENT = 0.1
"""What the newest full request counts for."""
_FULL = 16
"""Texts from which a request counts in full: single texts scatter more, and would widen everyone's margin."""


class Margin:
    """A relative margin for a request: 8 % before anything is known, then 1.5 % to 12 %.

    Estimates that were too high break no limit, and do not widen it.
    """

    def __init__(self) -> None:
        self._mean_square = (_FIRST / _DEVIATIONS) ** 2
        self._texts = 0

    @property
    def value(self) -> float:
        """Add this part of the sum of the estimates."""
        return min(_MOST, max(_LEAST, _DEVIATIONS * float(self._mean_square**0.5)))

    def learn(self, texts: int, error: float) -> None:
        """Take in a request of so many texts; ``error`` is actual by estimated tokens, less 1."""
        known, self._texts = self._texts, self._texts + texts
        if known < _FULL:
            # That was the first guess's error, not that of what was learned.
            return
        above = min(max(0.0, error), 2 * _MOST)
        fullness = min(1.0, texts / _FULL)
        self._mean_square += _RECENT * fullness * (fullness * above**2 - self._mean_square)
