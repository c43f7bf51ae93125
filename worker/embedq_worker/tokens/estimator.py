"""How many tokens a text has, before the service says: cheap, and learned from what it said of others."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from embedq_worker.catalogue.model import Model
from embedq_worker.tokens.features import Features, features, total
from embedq_worker.tokens.margin import Margin
from embedq_worker.tokens.tokenizer import load_tokenizer
from embedq_worker.tokens.weights import Weights

_SAMPLE_TEXTS = 64
"""Texts counted exactly before the service has said anything: 3 ms together."""
_REST = 9
"""Times as long as a long text took to count, none is counted."""
_SAMPLE_CHARACTERS = 2_000


class Estimator:
    """Tokens of one model's texts, for one process; not for several threads.

    The first guess is ``tokens_per_byte``, on the high side; ``learn`` corrects it with every answer. Where
    the model's tokenizer is known and installed (0.2 s to load, in the constructor, once a process), the
    first texts and those near ``max_tokens`` are counted exactly.
    """

    def __init__(self, model: Model) -> None:
        self._max_tokens = model.max_tokens
        self._byte_level = model.tokenizer is not None
        self._tokenizer = load_tokenizer(model.tokenizer)
        self._sample = 0 if self._tokenizer is None else _SAMPLE_TEXTS
        self._weights = Weights(model.tokens_per_byte)
        self._margin = Margin()
        self._carry = 0.0
        self._rests_until = 0.0

    @property
    def margin(self) -> float:
        """Relative safety margin of a request: reserve ``sum of estimates * (1 + margin)`` tokens.

        0.015 to 0.12, by how far recent requests exceeded their estimates; 0.08 before the first answer.
        """
        return self._margin.value

    def estimate(self, text: str) -> int:
        """The expected tokens of ``text``: at least 1, at most ``ceiling``.

        What rounding drops is carried over, so that sums over many short texts are right: a text's estimates
        can differ by one or two.

        Two microseconds for 450 bytes, save for what is counted exactly: the first texts, and those from
        half to twice ``max_tokens``, for a tenth of the time at most.
        """
        counts = features(text)
        tokens = self._rounded(self._weights.tokens(counts))
        if self._is_near_limit(tokens):
            tokens = self._afforded(text) or tokens
        elif self._sample and len(text) <= _SAMPLE_CHARACTERS:
            tokens = self._sampled(text, counts) or tokens
        return max(1, min(tokens, self._ceiling(counts, 1)))

    def _afforded(self, text: str) -> int | None:
        """The exact tokens, unless counting has just taken long: the event loop waits for it."""
        began = monotonic()
        if began < self._rests_until:
            return None
        tokens = self.exact(text)
        ended = monotonic()
        self._rests_until = ended + _REST * (ended - began)
        return tokens

    def exact(self, text: str) -> int | None:
        """The tokens of ``text``, counted; None without the model's tokenizer, and for a very long text.

        Tens of microseconds for a short text, milliseconds for a long one: ask where the answer decides
        something, as whether a text exceeds ``max_tokens``.
        """
        return None if self._tokenizer is None else self._tokenizer.count(text)

    def ceiling(self, text: str) -> int:
        """The most tokens that ``text`` can have.

        Its UTF-8 bytes for a byte-level tokenizer (one that the catalogue names). Any other: two a byte and
        two for the text. SentencePiece makes a token of each byte of an unknown character, and one more of a
        space before it (1.25 a byte for a lone emoji); BERT adds two special tokens to each text. Unicode
        normalisation can exceed this for a few ligatures, which no text consists of.
        """
        return self._ceiling(features(text), 1)

    def learn(self, texts: Sequence[str], tokens: int | None) -> None:
        """Take in one answered request: its texts, and the tokens of its ``usage``.

        Recent requests count more. A count that cannot be true is ignored: None, fewer than the texts, or
        above their ``ceiling``. One that is far off alone moves the estimate little. A microsecond a text.
        """
        counts = total(texts)
        if tokens is None or not any(counts):
            return
        if not len(texts) <= tokens <= self._ceiling(counts, len(texts)):
            return
        self._sample = 0
        self._take_in(counts, len(texts), tokens)

    def _rounded(self, tokens: float) -> int:
        wanted = tokens + self._carry
        rounded = max(1, round(wanted))
        self._carry = max(-1.0, wanted - rounded)
        return rounded

    def _take_in(self, counts: Features, texts: int, tokens: int) -> None:
        error = tokens / self._weights.tokens(counts) - 1
        self._margin.learn(texts, error)
        self._weights.learn(counts, texts, error)

    def _sampled(self, text: str, counts: Features) -> int | None:
        counted = self.exact(text)
        if counted:
            self._sample -= 1
            self._take_in(counts, 1, counted)
        return counted

    def _is_near_limit(self, tokens: int) -> bool:
        return self._max_tokens / 2 <= tokens <= self._max_tokens * 2

    def _ceiling(self, counts: Features, texts: int) -> int:
        size = sum(counts)
        return max(texts, size) if self._byte_level else 2 * (size + texts)
