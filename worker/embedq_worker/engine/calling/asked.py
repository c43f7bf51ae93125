"""The texts of one model that are asked for, each once, until everybody who waits for it has been told."""

from __future__ import annotations

from collections.abc import Iterator

from embedq_worker.engine.texts import Batch, Shape, WaitingText
from embedq_worker.engine.work import Vector
from embedq_worker.errors import ABANDONED, ApiError


class AskedTexts:
    """Texts that wait for their vectors, in line or in flight, by their shape and content hash."""

    def __init__(self) -> None:
        self._texts: dict[tuple[Shape, bytes], WaitingText] = {}

    def __iter__(self) -> Iterator[WaitingText]:
        return iter(self._texts.values())

    def get(self, shape: Shape, key: bytes) -> WaitingText | None:
        """The text with this content hash, if it is asked for."""
        return self._texts.get((shape, key))

    def add(self, text: WaitingText, shape: Shape) -> None:
        """It is asked for from now on."""
        self._texts[shape, text.key] = text

    def embedded(self, text: WaitingText, shape: Shape, vector: Vector, tokens: int) -> None:
        """Its vector has come; ``tokens`` is its share of the request's."""
        del self._texts[shape, text.key]
        text.embedded(vector, tokens)

    def refuse(self, text: WaitingText, shape: Shape, error: ApiError) -> None:
        """There will be no vector."""
        del self._texts[shape, text.key]
        text.refused(error)

    def let_go(self, text: WaitingText, shape: Shape) -> bool:
        """Tell those who wait for it no more; whether nobody is left, and it is not asked for any more."""
        is_abandoned = text.let_go(ABANDONED)
        if is_abandoned:
            del self._texts[shape, text.key]
        return is_abandoned

    def sift(self, batch: Batch) -> bool:
        """Take the texts out of a batch that nobody waits for any more; whether others are left."""
        batch.texts = [text for text in batch.texts if not self.let_go(text, batch.shape)]
        return bool(batch.texts)
