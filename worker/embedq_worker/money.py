"""Money for people."""

from __future__ import annotations

from decimal import Decimal


def dollars(amount: Decimal | float | None) -> str:
    """To the cent, or to two digits of what is less: nothing that costs something is shown as 0."""
    if amount is None:
        return "unknown"
    exact = Decimal(amount)
    places = 1 - exact.adjusted() if 0 < exact < 1 else 2
    return f"${exact:,.{max(2, places)}f}"
