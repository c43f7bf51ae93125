"""Sizes and shares for people."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes, in the unit that gives at most four digits."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1_024:
            return f"{count:.0f} {unit}"
        count /= 1_024
    return f"{count:,.1f} GiB"
