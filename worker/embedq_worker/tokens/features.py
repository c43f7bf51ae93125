"""What of a text its number of tokens is estimated from."""

from __future__ import annotations

from collections.abc import Iterable

Features = tuple[int, int, int]
"""Characters that are not ASCII digits; ASCII digits; UTF-8 bytes beyond one a character.

A digit is a token of its own for SentencePiece and a third of one for cl100k. The bytes beyond are 0 for
ASCII, 1 for a Cyrillic letter, 2 for a Chinese one, 3 for most emoji. Measured with both tokenizers: where
requests of prose, code, product data and Chinese take turns, packing by one ratio for all bytes breaks the
limit a third of the time, and by these three in 1 request of 100. Spaces, punctuation and astral characters
as further counts cost more and gained little.
"""

_DIGITS = b"0123456789"


def features(text: str) -> Features:
    """Count one text; about half a microsecond for 450 bytes, and linear."""
    raw = text.encode("utf-8", "surrogatepass")
    digits = len(raw) - len(raw.translate(None, _DIGITS))
    return len(text) - digits, digits, len(raw) - len(text)


def total(texts: Iterable[str]) -> Features:
    """The sums over ``texts``."""
    characters = digits = further = 0
    for text in texts:
        counts = features(text)
        characters += counts[0]
        digits += counts[1]
        further += counts[2]
    return characters, digits, further
