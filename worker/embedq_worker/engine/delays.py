"""Delays between attempts, each twice the one before, up to a longest."""

from __future__ import annotations

_DOUBLINGS = 60
"""More of them make no difference, and a thousand are more than a float holds."""


def doubled(first: float, longest: float, attempts: int) -> float:
    """Seconds after so many ``attempts``, of which the first one is followed by ``first``."""
    return min(longest, first * 2.0 ** min(attempts - 1, _DOUBLINGS))
