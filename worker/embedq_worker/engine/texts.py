"""Texts that wait for their vectors, and who waits for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

from embedq_worker.api.request import Purpose
from embedq_worker.catalogue.model import count_characters
from embedq_worker.engine.work import Vector
from embedq_worker.errors import ApiError
from embedq_worker.limiter import Flow
from embedq_worker.logs import failure, get_logger
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Span, Spans

logger = get_logger(__name__)


class Shape(NamedTuple):
    """What texts must have in common to share a request of a model."""

    dimensions: int
    purpose: Purpose


class Waiter(Protocol):
    """Who waits for a text's vector."""

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        """The vector has come; ``tokens`` is this waiter's share of the request's."""

    def refused(self, error: ApiError, attempts: int) -> None:
        """There will be no vector."""

    @property
    def is_gone(self) -> bool:
        """Whether it waits no more: its caller has given up, or its collection was dropped."""

    @property
    def spans(self) -> Spans:
        """Of the messages for which it waits, if they are traced."""

    @property
    def source(self) -> str | None:
        """The service that wants it, as it calls itself; None where it does not."""

    @property
    def purpose(self) -> UsagePurpose:
        """What it is wanted for."""


class Asker(Protocol):
    """Who gets texts their vectors: a model's dispatcher, or the cache before it."""

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """Have ``text`` embedded for ``waiter``; ``key`` is its content hash."""


class WaitingText:
    """A text that wants a vector, and everybody who waits for it: equal texts are asked for once.

    ``tokens`` is an estimate; what the service counts is known only from its answer. ``payer`` is the one of
    those who wait that it is charged to: whoever was first, or brought it forward.
    """

    __slots__ = ("arrived", "attempts", "characters", "flow", "key", "payer", "text", "tokens", "waiters")

    def __init__(self, key: bytes, text: str, tokens: int, arrived: float, flow: Flow, payer: Waiter) -> None:
        self.key = key
        self.text = text
        self.characters = count_characters(text)
        self.tokens = tokens
        self.arrived = arrived
        self.flow = flow
        self.payer = payer
        self.attempts = 0
        self.waiters: list[Waiter] = []

    def let_go(self, error: ApiError) -> bool:
        """Tell those who wait no more; whether nobody is left."""
        left: list[Waiter] = []
        gone: list[Waiter] = []
        for waiter in self.waiters:
            (gone if waiter.is_gone else left).append(waiter)
        self.waiters = left
        for waiter in gone:
            _tell(partial(waiter.refused, error, self.attempts))
        return not self.waiters

    @property
    def spans(self) -> Iterator[Span]:
        """Of the messages that wait for it."""
        return (span for waiter in self.waiters for span in waiter.spans)

    def embedded(self, vector: Vector, tokens: int) -> None:
        """Tell every waiter; the first one carries the tokens, the others cost nothing."""
        for number, waiter in enumerate(self.waiters):
            _tell(partial(waiter.embedded, vector, 0 if number else tokens, self.attempts))

    def refused(self, error: ApiError) -> None:
        """Tell every waiter."""
        for waiter in self.waiters:
            _tell(partial(waiter.refused, error, self.attempts))


def _tell(news: Callable[[], None]) -> None:
    """An error of one waiter must not cost the others their vectors."""
    try:
        news()
    except Exception as error:
        logger.error("vector_not_handed_on", "a vector could not be handed on: {error}", **failure(error))


@dataclass(slots=True, eq=False)
class Batch:
    """The texts of one API request, and its failures so far.

    ``first_failure`` by the monotonic clock, seconds; ``strikes``: failures in a row that were its own, which
    is told from what others' requests came to since ``answers_before`` and ``failures_before``; ``refusals``:
    those of its own by which the service refused us.
    """

    texts: list[WaitingText]
    shape: Shape
    failures: int = 0
    first_failure: float = 0.0
    answers_before: int = 0
    failures_before: int = 0
    strikes: int = 0
    refusals: int = 0
    is_half: bool = False
    """Whether it is a part of one that failed."""

    @property
    def flow(self) -> Flow:
        """Whose turn is taken for it."""
        return self.texts[0].flow

    @property
    def tokens(self) -> int:
        """The sum of the estimates."""
        return sum(text.tokens for text in self.texts)

    def divided(self, is_held: Callable[[str], bool]) -> list[Batch]:
        """The batch, or two where some of its texts must wait for money and others need not."""
        held = [text for text in self.texts if is_held(text.flow.collection)]
        if not held or len(held) == len(self.texts):
            return [self]
        free = [text for text in self.texts if not is_held(text.flow.collection)]
        return [replace(self, texts=part) for part in (free, held)]

    @property
    def spans(self) -> Iterator[Span]:
        """Of the messages that wait for its texts."""
        return (span for text in self.texts for span in text.spans)

    def halves(self) -> tuple[Batch, Batch]:
        """Two batches of half the texts."""
        half = len(self.texts) // 2
        first, second = self.texts[:half], self.texts[half:]
        return Batch(first, self.shape, is_half=True), Batch(second, self.shape, is_half=True)


def tokens_of(texts: Sequence[WaitingText], tokens: int | None) -> list[int]:
    """Each text's tokens of an answered request: its share of what the service counted, else its estimate."""
    return shares(texts, tokens) if tokens else [text.tokens for text in texts]


def shares(texts: Sequence[WaitingText], tokens: int | None) -> list[int]:
    """Each text's share of a request's tokens, by its characters; the shares add up to ``tokens``."""
    total = sum(text.characters for text in texts)
    given_out: list[int] = []
    characters = given = 0
    for text in texts:
        characters += text.characters
        given_out.append((tokens or 0) * characters // max(1, total) - given)
        given += given_out[-1]
    return given_out
