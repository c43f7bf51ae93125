"""What a new collection does with texts that are longer than its model takes."""

from __future__ import annotations

from typing import NamedTuple

from embedq_worker.catalogue import Model
from embedq_worker.errors import BadChunks
from embedq_worker.store.collection import OnTooLong

FEWEST_TOKENS = 64
"""Of a chunk: smaller ones say little, and a message of 1 MiB would become tens of thousands of rows."""
_OVERLAP = 10
"""A chunk repeats this part of the one before, unless told otherwise: a tenth."""


class LongTexts(NamedTuple):
    """As ``embedq collection create`` is told: dead letters, cut, or chunks of so many tokens.

    ``chunk_tokens``, of a chunk at most; too few tear apart what belongs together and make many rows, too
    many blur what a chunk is about. ``chunk_overlap``, tokens that a chunk repeats of the one before at most;
    none splits a thought in two, more than a tenth or so pays for the same words again.
    """

    on_too_long: OnTooLong = "error"
    chunk_tokens: int | None = None
    chunk_overlap: int | None = None

    def of(self, model: Model) -> LongTexts:
        """With the defaults that the model's limits give. Raises ``BadChunks``."""
        if self.on_too_long != "chunk":
            self._check_absent()
            return self
        most = min(model.max_tokens, model.max_request_tokens)
        tokens = most if self.chunk_tokens is None else self.chunk_tokens
        overlap = tokens // _OVERLAP if self.chunk_overlap is None else self.chunk_overlap
        if tokens > most:
            raise BadChunks(f"chunks of {tokens} tokens are too long for {model.id}; it takes {most} at most")
        if tokens < min(FEWEST_TOKENS, most):
            raise BadChunks(f"chunks of {tokens} tokens are too short; choose {FEWEST_TOKENS} or more")
        if not 0 <= overlap <= tokens // 2:
            raise BadChunks(
                f"an overlap of {overlap} tokens is too much for chunks of {tokens}; "
                f"choose {tokens // 2} or fewer"
            )
        return LongTexts("chunk", tokens, overlap)

    def _check_absent(self) -> None:
        if self.chunk_tokens is not None or self.chunk_overlap is not None:
            raise BadChunks(
                "the size and overlap of chunks are only for collections that chunk long texts; choose "
                "--on-too-long chunk, or leave --chunk-tokens and --chunk-overlap out"
            )
