"""A simulated embeddings service: how long it takes, and what it refuses."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulation.agenda import Agenda
from tests.simulation.sliding import SlidingMinute

_REFUSAL = 0.02
"""Seconds until a refusal is on its way back."""


class Answer(NamedTuple):
    """HTTP status, seconds until it is sent, and ``Retry-After``."""

    status: int
    delay: float
    retry_after: float | None = None


class Trouble(NamedTuple):
    """From one time to another each call is answered with this status."""

    start: float
    end: float
    status: int
    delay: float = 0.05
    retry_after: float | None = None


@dataclass
class Service:
    """It allows ``hidden`` calls at once, and requests and tokens in a sliding minute; None: any number.

    ``latency`` in seconds is the median of a lognormal distribution with ``spread``.
    """

    agenda: Agenda
    rng: random.Random
    latency: float = 0.5
    spread: float = 0.3
    hidden: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    says_when: bool = True
    """Whether refusals for a rate carry ``Retry-After``."""
    troubles: list[Trouble] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin without calls."""
        self.in_flight = 0
        self.arrived: list[float] = []
        self.statuses: dict[int, int] = {}
        self.seen = SlidingMinute()
        """Whatever arrived, refused or not."""
        self._admitted = SlidingMinute()

    def call(self, tokens: int) -> Answer:
        """A call arrives now."""
        now = self.agenda.now
        self.arrived.append(now)
        self.seen.add(now, tokens)
        answer = self._answer(now, tokens)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        if answer.status == 200:
            self._admitted.add(now, tokens)
        self.in_flight += 1
        self.agenda.after(answer.delay, self._left)
        return answer

    def share(self, status: int) -> float:
        """Of all calls, those that were answered so."""
        return self.statuses.get(status, 0) / max(1, sum(self.statuses.values()))

    def _answer(self, now: float, tokens: int) -> Answer:
        for trouble in self.troubles:
            if trouble.start <= now < trouble.end:
                return Answer(trouble.status, trouble.delay, trouble.retry_after)
        if self.hidden is not None and self.in_flight >= self.hidden:
            return Answer(429, _REFUSAL)
        wait = self._admitted.until_room(now, self.requests_per_minute, self.tokens_per_minute, tokens)
        if wait > 0:
            return Answer(429, _REFUSAL, math.ceil(wait) if self.says_when else None)
        return Answer(200, self.latency * math.exp(self.rng.gauss(0, self.spread)))

    def _left(self) -> None:
        self.in_flight -= 1
