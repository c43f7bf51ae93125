"""Chunking: a text becomes chunks of at most so many tokens, which may overlap a little.

A library looks for the boundaries, and asks for the size of a text some fifteen times a chunk. It is told
estimates; the tokens of what it finds are counted once, and where they are too many it looks again. Its own
overlap is not used: it takes quadratic time in the lines of an overlap.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from semantic_text_splitter import TextSplitter

from embedq_worker.engine.splitting.graphemes import whole_from

_CHUNKS_AT_ONCE = 2.5
"""Chunks of a window. The library takes quadratic time for a text without sentences or lines."""
_LEAST_WINDOW = 1_000
"""Characters of a window, however small the chunks are: each window costs 50 microseconds."""
_SAMPLE = 20_000
"""Characters of a window that are counted, to know how far the estimates are off in it."""
_FILL = 0.97
"""Of the limit that estimates aim at: most chunks are within it then."""
_TRIES = 6
"""Times that a window's first chunk is estimated anew; then everything is counted."""
_BOUNDARIES = (
    re.compile(r"\n\s*(?=\S)"),
    re.compile(r"(?:[.!?]\s+|[\u3002\uff01\uff1f]\s*)(?=\S)"),
    re.compile(r"\s+(?=\S)"),
)
"""After which an overlap may begin, the best first: lines, sentences, words."""
_OVERLAP_TRIES = 4
_SMALLER = 0.7
"""What is left of an overlap each time that it is too large."""

Span = tuple[int, str]
"""Where in a text a chunk begins, in characters, and the chunk."""
Measure = Callable[[str], float]
"""The tokens of a text."""


class SplitFailed(Exception):
    """The library broke down over a text, or nobody waits for the chunks any more."""


class Sizes(NamedTuple):
    """How texts are measured."""

    weigh: Measure
    """What the limit is held against."""
    estimate: Measure
    """Cheap: the same but for a factor, or nearly so."""
    is_exact: bool
    """Whether the estimate is what is counted."""
    unit: float
    """The most tokens of a byte, either way: the library takes for granted that none has more than one."""


class Chunking:
    """Chunks of at most ``most`` tokens, of which ``overlap`` at most are the end of the chunk before.

    ``go_on`` is asked now and then, and may raise to end it.
    """

    def __init__(self, sizes: Sizes, most: int, overlap: int, go_on: Callable[[], None]) -> None:
        self._sizes = sizes
        self._most = most
        self._overlap = min(overlap, most // 2)
        self._fresh = max(1, most - self._overlap)
        self._go_on = go_on

    def spans(self, text: str, per_token: float) -> list[Span]:
        """Chunks of ``text``, which has ``per_token`` characters a token. Takes linear time."""
        window = max(_LEAST_WINDOW, int(_CHUNKS_AT_ONCE * self._fresh * per_token))
        spans = self._windowed(text, window)
        if not self._overlap:
            return spans
        return spans[:1] + [self._overlapping(text, before, span) for before, span in pairwise(spans)]

    def _windowed(self, text: str, window: int) -> list[Span]:
        """Of each window all but the last chunk, which the next window begins with."""
        spans: list[Span] = []
        start = 0
        while start < len(text):
            self._go_on()
            is_end = start + window >= len(text)
            found, passed = self._fitting(text[start : start + window], is_end)
            # Some control characters are white space to Python, and to the contract, and none to the library.
            spans += [(start + offset, chunk) for offset, chunk in found if chunk.strip()]
            start += passed
        return spans

    def _fitting(self, text: str, is_end: bool) -> tuple[list[Span], int]:
        """The first chunks of a window, and how many of its characters the next one need not begin with."""
        factor = self._factor(text[:_SAMPLE])
        for _ in range(_TRIES):
            found = self._estimated(text, factor)
            fitting = self._leading(found if is_end or len(found) < 2 else found[:-1])
            if fitting or not found:
                return fitting, _passed(found, len(fitting), len(text), is_end)
            factor = max(factor, self._factor(found[0][1]))
        found = self._library(self._sizes.weigh, self._fresh, text)
        return found[:1], _passed(found, 1, len(text), is_end)

    def _leading(self, found: list[Span]) -> list[Span]:
        for number, (_, chunk) in enumerate(found):
            if self._sizes.weigh(chunk) > self._fresh:
                return found[:number]
        return found

    def _factor(self, text: str) -> float:
        """By how much the estimate of such a text has to be multiplied."""
        if self._sizes.is_exact or not text:
            return 1.0
        return self._sizes.weigh(text) / self._sizes.estimate(text) / _FILL

    def _estimated(self, text: str, factor: float) -> list[Span]:
        return self._library(self._sizes.estimate, self._fresh / factor, text)

    def _library(self, measure: Measure, most: float, text: str) -> list[Span]:
        unit = self._sizes.unit
        splitter = TextSplitter.from_callback(
            lambda part: ceil(measure(part) / unit), max(1, int(most / unit))
        )
        try:
            return splitter.chunk_indices(text)
        except Exception:
            raise
        except BaseException as panic:  # of Rust: no Exception, and nobody above expects it
            raise SplitFailed(type(panic).__name__) from None

    def _overlapping(self, text: str, before: Span, span: Span) -> Span:
        """A chunk that begins within the one before it, as early as the limits and a good boundary let it."""
        first, last = before[0], before[0] + len(before[1])
        end = span[0] + len(span[1])
        length, smaller = len(before[1]), 1.0
        for _ in range(_OVERLAP_TRIES):
            tokens = max(1.0, self._sizes.weigh(text[last - length : last]))
            length = int(length * min(smaller, _FILL * self._overlap / tokens))
            start = _boundary(text, max(first + 1, last - length), last)
            if start < last and self._may_begin(text, start, last, end):
                return start, text[start:end]
            smaller = _SMALLER
        return span

    def _may_begin(self, text: str, start: int, last: int, end: int) -> bool:
        weigh = self._sizes.weigh
        return weigh(text[start:last]) <= self._overlap and weigh(text[start:end]) <= self._most


def _passed(found: list[Span], taken: int, length: int, is_end: bool) -> int:
    if taken < len(found):
        return found[taken][0]
    if is_end or not found:
        return length
    return found[-1][0] + len(found[-1][1])


def _boundary(text: str, start: int, end: int) -> int:
    """Where an overlap begins, from ``start`` on: at the best boundary that leaves half of it or more."""
    middle = (start + end + 1) // 2
    for boundary in _BOUNDARIES:
        found = boundary.search(text, start - 1, end)
        if found is not None and found.end() <= middle:
            return found.end()
    return whole_from(text, start, end)
