"""A dispatcher between a fake gate, which the test grants through, and a fake client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from embedq.contract import Lane
from embedq_worker.api.client import ApiClient
from embedq_worker.api.request import Purpose
from embedq_worker.api.response import Answer
from embedq_worker.catalogue import Model
from embedq_worker.engine.calling.dispatcher import Dispatcher
from embedq_worker.engine.money.budgets import Budgets
from embedq_worker.engine.money.purse import Purse
from embedq_worker.engine.money.usage import Usage
from embedq_worker.engine.texts import Shape
from embedq_worker.engine.work import Vector
from embedq_worker.errors import ApiError, BadInput, Refused, Transient
from embedq_worker.limiter import CallOutcome, Flow, Grant, Limiter, Limits, Want
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Spans

SHAPE = Shape(4, "document")
QUERY = Shape(4, "query")
LIVE, BULK, ASKED = Flow("live", "docs"), Flow("bulk", "docs"), Flow("query", "docs")


@dataclass
class FakeGate:
    """What a dispatcher sees of a gate: it keeps what is wanted, and the test grants."""

    on_grant: Callable[[Grant], None]
    on_pause: Callable[[], None]
    limits: Limits
    paused: str | None = None
    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None
    wants: dict[Flow, Want] = field(default_factory=dict)
    said: list[tuple[Flow, Want]] = field(default_factory=list)
    released: list[tuple[Grant, CallOutcome]] = field(default_factory=list)
    granted: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def want(self, flow: Flow, want: Want) -> None:
        """Keep it."""
        self.changed.set()
        self.said.append((flow, want))
        self.wants[flow] = want
        if not want.calls:
            del self.wants[flow]

    def release(self, grant: Grant, outcome: CallOutcome) -> None:
        """Keep it."""
        self.released.append((grant, outcome))

    def grant(self, flow: Flow, tokens: int | None = None) -> Grant:
        """Grant one call, with the tokens that are wanted for it."""
        self.granted += 1
        want = self.wants.get(flow, Want(0, 1))
        grant = Grant(f"p/{self.granted}", *flow, want.tokens if tokens is None else tokens, 0.0)
        self.on_grant(grant)
        return grant

    def pause(self, reason: str) -> None:
        """Something waits, and the fleet says that the model is paused."""
        self.paused = reason
        self.on_pause()

    @property
    def outcomes(self) -> list[CallOutcome]:
        """How the calls ended."""
        return [outcome for _, outcome in self.released]

    @property
    def verdicts(self) -> list[str]:
        """How the calls ended, in a word."""
        return [outcome.verdict for outcome in self.outcomes]


@dataclass
class FakeLimiter:
    """Opens one gate."""

    gates: list[FakeGate] = field(default_factory=list)

    def gate(
        self, model: str, limits: Limits, *, on_grant: Callable[[Grant], None], on_pause: Callable[[], None]
    ) -> FakeGate:
        """Open it."""
        assert model == "m"
        self.gates.append(FakeGate(on_grant, on_pause, limits))
        return self.gates[0]


@dataclass
class FakeClient:
    """Answers with as many vectors as texts, or fails as it is told: once for each of ``failures``."""

    calls: list[list[str]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    bad: str | None = None
    refuses: str | None = None
    breaks: str | None = None
    """A text that the service breaks down on."""
    tokens: int | None = 100
    held: asyncio.Event | None = None

    async def embed(self, model: Model, texts: Sequence[str], dimensions: int, purpose: Purpose) -> Answer:
        """One call."""
        assert model.id == "m"
        assert purpose in ("document", "query")
        self.calls.append(list(texts))
        if self.held:
            await self.held.wait()
        if self.failures:
            raise self.failures.pop(0)
        if self.bad in texts:
            raise BadInput(400, "bad_text")
        if self.refuses in texts:
            raise Refused(403)
        if self.breaks in texts:
            raise Transient(500, "broken")
        return Answer(np.ones((len(texts), dimensions), np.float32), self.tokens)


class Waiter:
    """Waits for one vector, and keeps what it is told."""

    purpose: UsagePurpose = "documents"

    spans: Spans = ()

    def __init__(self, source: str | None = None) -> None:
        self.source = source
        self.tokens: list[int] = []
        self.errors: list[ApiError] = []
        self.attempts = 0
        self.is_gone = False

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:
        """It has come."""
        assert vector.shape == (4,)
        self.tokens.append(tokens)
        self.attempts = attempts

    def refused(self, error: ApiError, attempts: int) -> None:
        """It will not come."""
        self.errors.append(error)
        self.attempts = attempts

    @property
    def is_waiting(self) -> bool:
        """Whether it was told nothing so far; never twice."""
        assert len(self.tokens) + len(self.errors) <= 1
        return not (self.tokens or self.errors)


class Bed:
    """A dispatcher between a fake gate and a fake client."""

    def __init__(self, *, batch_wait: float = 0.0, retry_time: float = 60.0, inputs: int = 8) -> None:
        self.client = FakeClient()
        self.may_call = True
        self.usage = Usage()
        self.budgets = open_budgets(lambda: self.dispatcher.follow_budgets())
        limiter = FakeLimiter()
        self.model = Model(id="m", dimensions=4, max_inputs=inputs, max_concurrency=3, requests_per_minute=50)
        self.dispatcher = Dispatcher(
            self.model,
            client=cast("ApiClient", self.client),
            limiter=cast("Limiter", limiter),
            purse=Purse(self.model, self.usage, self.budgets),
            batch_wait=batch_wait,
            retry_time=retry_time,
            may_call=lambda: self.may_call,
        )
        [self.gate] = limiter.gates
        self.running: asyncio.Task[None]

    async def ask(
        self, *texts: str, lane: Lane = "bulk", collection: str = "docs", shape: Shape = SHAPE
    ) -> list[Waiter]:
        """Ask for some texts, and let the dispatcher say what it wants."""
        waiters = []
        for text in texts:
            waiters.append(Waiter())
            self.dispatcher.ask(text.encode(), text, shape, Flow(lane, collection), waiters[-1])
        await settled()
        return waiters

    async def wanted(self, flow: Flow = BULK) -> None:
        """Wait until a call of a flow is wanted."""
        async with asyncio.timeout(5):
            while flow not in self.gate.wants:
                self.gate.changed.clear()
                await self.gate.changed.wait()

    async def grant(self, flow: Flow, tokens: int | None = None) -> None:
        """Grant a call, and let what follows happen."""
        self.gate.grant(flow, tokens)
        await settled()


def open_budgets(on_changed: Callable[[], None] = lambda: None) -> Budgets:
    """Budgets as they are while nobody has set one."""
    budgets = Budgets()
    budgets.refresh([], [])
    budgets.on_changed = on_changed
    return budgets


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(bed: Bed) -> AsyncIterator[Bed]:
    """The dispatcher runs."""
    bed.running = asyncio.create_task(bed.dispatcher.run())
    yield bed
    left = [bed.running, *bed.dispatcher.tasks]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
