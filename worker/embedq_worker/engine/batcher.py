"""The batcher: waiting texts of one model and shape, packed into requests up to the model's limits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedq_worker.catalogue.model import count_characters
from embedq_worker.errors import ApiError

Vector = NDArray[np.float32]


class Waiter(Protocol):
    """Who waits for a text's vector."""

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        """The vector has come; ``tokens`` is this waiter's share of the request's."""

    def refused(self, error: ApiError, attempts: int) -> None:
        """The service refuses this text."""


class WaitingText:
    """A text that wants a vector, and everybody who waits for it: equal texts are asked for once."""

    __slots__ = ("arrived", "attempts", "characters", "key", "text", "tokens", "waiters")

    def __init__(self, key: bytes, text: str, tokens: int, arrived: float) -> None:
        self.key = key
        self.text = text
        self.characters = count_characters(text)
        self.tokens = tokens
        """An estimate; what the service counts is known only from its answer."""
        self.arrived = arrived
        self.attempts = 0
        self.waiters: list[Waiter] = []

    def embedded(self, vector: Vector, tokens: int) -> None:
        """Tell every waiter; the first one carries the tokens, the others cost nothing."""
        for number, waiter in enumerate(self.waiters):
            waiter.embedded(vector, tokens if number == 0 else 0, self.attempts)

    def refused(self, error: ApiError) -> None:
        """Tell every waiter."""
        for waiter in self.waiters:
            waiter.refused(error, self.attempts)


class Limits(Protocol):
    """What of a model the batcher needs to know."""

    @property
    def inputs(self) -> int:
        """Texts in one request."""

    @property
    def max_request_tokens(self) -> int | None:
        """Tokens in one request."""

    @property
    def max_chars_in_array(self) -> int | None:
        """Characters of a text that shares a request; a longer one goes alone."""


class Batcher:
    """Texts in the order of arrival; those too long to share a request wait in a line of their own."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._max_inputs = limits.inputs
        self._max_tokens = limits.max_request_tokens or float("inf")
        self._max_characters = limits.max_chars_in_array or float("inf")
        self._clock = clock
        self._shared: deque[WaitingText] = deque()
        self._alone: deque[WaitingText] = deque()
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._shared) + len(self._alone)

    def add(self, text: WaitingText) -> None:
        """Put a text in line."""
        if text.characters > self._max_characters:
            self._alone.append(text)
        else:
            self._shared.append(text)
            self._tokens += text.tokens

    @property
    def full(self) -> bool:
        """Whether waiting longer would not make the next request fuller."""
        return bool(self._alone) or len(self._shared) >= self._max_inputs or self._tokens >= self._max_tokens

    @property
    def oldest_wait(self) -> float:
        """Seconds that the text at the head has waited; 0 when nothing waits."""
        heads = [line[0].arrived for line in (self._shared, self._alone) if line]
        return self._clock() - min(heads) if heads else 0.0

    def take(self) -> list[WaitingText]:
        """The next batch, as full as the model's limits allow; empty when nothing waits."""
        if self._alone and (not self._shared or self._alone[0].arrived <= self._shared[0].arrived):
            return [self._alone.popleft()]
        batch: list[WaitingText] = []
        tokens = 0
        while self._shared and len(batch) < self._max_inputs:
            tokens += self._shared[0].tokens
            if batch and tokens > self._max_tokens:
                break
            batch.append(self._shared.popleft())
        self._tokens -= sum(text.tokens for text in batch)
        return batch
