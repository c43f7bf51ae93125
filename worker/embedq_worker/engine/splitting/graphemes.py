"""Characters that are drawn as one: a text is not cut within them."""

from __future__ import annotations

import unicodedata

_JOINER = "\N{ZERO WIDTH JOINER}"
_MODIFIERS = range(0x1F3FB, 0x1F400)
"""Skin tones."""


def whole_until(text: str, end: int, least: int) -> int:
    """The last place up to ``end``, and not before ``least``, where ``text`` may be cut; else ``end``."""
    for at in range(end, least - 1, -1):
        if not _continues(text, at):
            return at
    return end


def whole_from(text: str, start: int, most: int) -> int:
    """The first place from ``start`` on where ``text`` may be cut; ``most`` where there is none before it."""
    for at in range(start, most):
        if not _continues(text, at):
            return at
    return most


def _continues(text: str, at: int) -> bool:
    """Whether the character at ``at`` is drawn together with the one before."""
    if not 0 < at < len(text):
        return False
    character = text[at]
    return (
        unicodedata.combining(character) > 0
        or unicodedata.category(character) in ("Mn", "Me", "Mc")
        or ord(character) in _MODIFIERS
        or _JOINER in (character, text[at - 1])
    )
