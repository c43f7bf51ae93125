"""Numbers in sentences for people."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """``1 item``, ``2,000 items``; ``many`` where an s at the end does not make the plural."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
