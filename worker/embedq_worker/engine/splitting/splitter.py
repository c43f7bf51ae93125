"""What of a long text is embedded: the chunks that it is split into, or its beginning.

Boundaries depend on the text, the collection and the model alone, so that the same text always gives the
same rows; and on whether the model's tokenizer is installed, which counts exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import ceil, inf

from embedq_worker.catalogue import Model
from embedq_worker.catalogue.model import count_characters
from embedq_worker.engine.splitting.chunking import Chunking, Sizes, Span, SplitFailed
from embedq_worker.engine.splitting.graphemes import whole_until
from embedq_worker.store.collection import Collection
from embedq_worker.tokens import Counter

MOST_TRIES = 5
"""Times that a text is made smaller which the service calls too long: down to an eighth."""
_SMALLER = 2 / 3
"""What is left of a text's tokens each time."""
_MARGIN = 0.88
"""Of the model's limit, where tokens are not counted exactly."""
_LOOK_BACK = 0.1
"""Of a text that is cut, how much is given up to end with a word."""
_LONGEST_WHOLE = 64
"""Characters that may be drawn as one: what is longer is cut anywhere."""
_DOUBT = 2
"""Times the limit that a text may have by estimate, and is asked for whole first."""


class Splitter(ABC):
    """Splits or cuts the texts of one collection by the limits of its model."""

    def __init__(self, model: Model, tokens: int) -> None:
        """``tokens`` of a part at most, as far as the model takes them."""
        self._counter = Counter(model)
        self._is_stopped = False
        prefix = model.document_prefix
        limit = min(model.max_tokens, model.max_request_tokens)
        if not self._counter.is_exact:
            limit = int(limit * _MARGIN)
        self.most_tokens = max(1, min(tokens, limit) - self._counter.count(prefix))
        self.most_characters = (model.max_chars_alone or inf) - count_characters(prefix)

    def fits(self, text: str) -> bool:
        """Whether ``text`` is surely within the limits, told from its length alone."""
        return (
            len(text) * self._counter.most_per_character <= self.most_tokens
            and 2 * len(text) <= self.most_characters
        )

    def size(self, text: str) -> int:
        """The tokens of ``text``; where its characters are nearer their limit, as many as to be as near."""
        return ceil(self._weigh(text))

    def stop(self) -> None:
        """Nobody waits for anything any more: what is being split fails soon. From any thread."""
        self._is_stopped = True

    def _weigh(self, text: str) -> float:
        return self._at_least_by_characters(text, self._counter.weigh(text))

    def _estimate(self, text: str) -> float:
        return self._at_least_by_characters(text, self._counter.estimate(text))

    def _at_least_by_characters(self, text: str, tokens: float) -> float:
        if self.most_characters == inf:
            return tokens
        return max(tokens, count_characters(text) * self.most_tokens / self.most_characters)

    @abstractmethod
    def split(self, text: str, refusals: int = 0) -> list[str]:
        """The parts to embed; ``text`` alone where it is within the limits.

        ``refusals``: how often the service called it too long. Takes up to two seconds, for a thread. Raises
        ``SplitFailed``.
        """


class Chunker(Splitter):
    """Splits texts into chunks, at boundaries of sections, lines, sentences or words where there are any."""

    def __init__(self, collection: Collection, model: Model) -> None:
        super().__init__(model, collection.chunk_tokens or model.max_tokens)
        self._overlap = collection.chunk_overlap or 0

    def split(self, text: str, refusals: int = 0) -> list[str]:
        """What was refused is itself a chunk already, or a text that seemed to be within the limits."""
        return [chunk for _, chunk in self.spans(text, refusals)]

    def spans(self, text: str, refusals: int = 0) -> list[Span]:
        """The chunks and where they begin."""
        size = self.size(text)
        most = self.most_tokens
        if refusals:
            most = max(1, int(min(most, size) * _SMALLER))
        elif size <= most:
            return [(0, text)]
        unit = max(self._counter.most_per_byte, self.most_tokens / self.most_characters)
        sizes = Sizes(self._weigh, self._estimate, not self._counter.is_exact, unit)
        chunking = Chunking(sizes, most, self._overlap, self._go_on)
        return chunking.spans(text, len(text) / size) or [(0, text)]

    def _go_on(self) -> None:
        if self._is_stopped:
            raise SplitFailed("stopped")


class Cutter(Splitter):
    """Cuts texts off, after a word where there is one."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, model.max_tokens)

    def split(self, text: str, refusals: int = 0) -> list[str]:
        """By an estimate alone no text is cut that may be within the limit: the service is asked first."""
        size = self.size(text)
        is_doubtful = not self._counter.is_exact and size <= _DOUBT * self.most_tokens
        is_doubtful = is_doubtful and count_characters(text) <= self.most_characters
        if not refusals and (size <= self.most_tokens or is_doubtful):
            return [text]
        most = self.most_tokens
        if refusals:
            most = int(min(most, size * _SMALLER) * _SMALLER ** (refusals - 1))
        return [self._cut(text.strip() or text, max(1, most))]

    def _cut(self, text: str, most: int) -> str:
        low, high = 1, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self.size(text[:middle]) <= most:
                low = middle
            else:
                high = middle - 1
        return text[: _boundary(text, low)]


def splitter_of(collection: Collection, model: Model) -> Splitter | None:
    """What a collection does with long texts; None where they are dead letters."""
    if collection.on_too_long == "chunk":
        return Chunker(collection, model)
    return Cutter(model) if collection.on_too_long == "truncate" else None


def _boundary(text: str, end: int) -> int:
    """The end of the last word before ``end``, if it is near, else that of the last whole character there."""
    if end >= len(text):
        return len(text)
    least = max(1, end - int(end * _LOOK_BACK))
    for at in range(end, least - 1, -1):
        if text[at].isspace():
            return at
    return whole_until(text, end, max(1, min(least, end - _LONGEST_WHOLE)))
