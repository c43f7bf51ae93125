"""The models that a fleet calls, and the texts that wait for them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from embedq_worker.limiter.exchange import Flow, Limits
from tests.simulation.agenda import Agenda
from tests.simulation.audit import Audit
from tests.simulation.service import Service


@dataclass(slots=True, eq=False)
class Work:
    """Texts that fill one request, since when they wait, and their tokens once they were packed."""

    flow: Flow
    since: float
    tokens: int | None = None
    failures: int = 0


@dataclass(slots=True)
class Queue:
    """What waits in Redis for one flow, counted in full requests of ``tokens`` by estimate.

    ``error``: standard deviation of what the service counts, as a part of the estimate; ``margin``: the part
    that is added to each estimate.
    """

    flow: Flow
    waiting: int = 0
    tokens: int = 1000
    error: float = 0.0
    margin: float = 0.0
    waits: list[float] = field(default_factory=list)
    """Seconds from arrival to the beginning of the call, of all that have begun."""
    unfinished: int = 0
    finished_at: float = 0.0
    done: int = 0
    done_tokens: int = 0

    def put(self, calls: int) -> None:
        """So many more wait."""
        self.waiting += calls
        self.unfinished += calls

    @property
    def asked(self) -> int:
        """Tokens to reserve for one request."""
        return round(self.tokens * (1 + self.margin)) + 1

    def pack(self, granted: int, rng: random.Random) -> int:
        """Tokens as the service counts them, of a request that was packed for a grant."""
        estimate = min(self.tokens, granted / (1 + self.margin))
        return max(1, round(estimate * (1 + rng.gauss(0, self.error)))) if self.error else round(estimate)

    def finish(self, now: float, tokens: int) -> None:
        """One request was answered."""
        self.done += 1
        self.done_tokens += tokens
        self.unfinished -= 1
        if self.unfinished == 0:
            self.finished_at = now


class World:
    """One model: its limits, its service, its queues, and what is observed of it."""

    def __init__(
        self, agenda: Agenda, name: str, limits: Limits, service: Service, queues: list[Queue]
    ) -> None:
        self.name = name
        self.limits = limits
        self.service = service
        self.queues = {queue.flow: queue for queue in queues}
        self.audit = Audit(agenda, limits.max_concurrency)
        self.granted = 0
        self.unused = 0
        self.opened_at: list[float] = []
        """When a process was told that its call had opened the breaker."""
        self.closed_at: list[float] = []

    @property
    def has_work(self) -> bool:
        """Whether anything has not been answered."""
        return any(queue.unfinished for queue in self.queues.values())
