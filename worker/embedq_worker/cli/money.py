"""JSON with money in it."""

from __future__ import annotations

import msgspec

_encoder = msgspec.json.Encoder(decimal_format="number")


def as_json(value: object) -> str:
    """JSON to be read by people as well; money as exact numbers."""
    return msgspec.json.format(_encoder.encode(value)).decode()
