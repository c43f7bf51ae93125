"""Money for people and for scripts."""

from __future__ import annotations

from decimal import Decimal

import msgspec

_encoder = msgspec.json.Encoder(decimal_format="number")


def as_json(value: object) -> str:
    """JSON to be read by people as well; money as exact numbers."""
    return msgspec.json.format(_encoder.encode(value)).decode()


def dollars(cost: Decimal | None) -> str:
    """In cents, or finer where there is little of it."""
    if cost is None:
        return "unknown"
    return f"${cost:,.2f}" if cost >= 1 or not cost else f"${cost:,.6f}"
