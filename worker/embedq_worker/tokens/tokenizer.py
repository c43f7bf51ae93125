"""Exact counts, where the optional packages of ``embedq[tokenizer]`` are installed; never a download.

Measured for cl100k: 0.2 s and 46 MB of memory to load, 10 microseconds for 100 bytes, 30 for 400, 150 for
2,000, 2,400 for 30,000, twice that for one long word. A worker has some 76 microseconds a text, so that only
what decides is counted.
"""

from __future__ import annotations

from functools import cache

MAX_CHARACTERS = 65_536
"""Longer texts are not counted: 5 ms for prose, 35 for the worst, and the event loop waits for it."""


class Tokenizer:
    """One model family's own tokenizer."""

    def __init__(self, name: str) -> None:
        """Raise ``ImportError`` or ``ValueError`` where the packages or this encoding are missing."""
        import tiktoken

        # tiktoken's own name for it would download the vocabulary.
        self._encoding = tiktoken.get_encoding(f"{name}_offline")

    def count(self, text: str) -> int | None:
        """Tokens of ``text``, special ones as the plain text that they are; None if it is too long."""
        if len(text) > MAX_CHARACTERS:
            return None
        return len(self._encoding.encode_ordinary(text))


@cache
def load_tokenizer(name: str | None) -> Tokenizer | None:
    """The tokenizer of this name, once a process; None for no name and where its packages are missing."""
    if name is None:
        return None
    try:
        return Tokenizer(name)
    except (ImportError, ValueError, OSError):
        return None
