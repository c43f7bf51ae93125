"""A dispatcher by itself, between a real limiter and the fake API, and somebody who waits for its vectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from embedq.contract import Lane
from embedq_worker.api.client import ApiClient
from embedq_worker.api.request import Purpose
from embedq_worker.catalogue import Model
from embedq_worker.engine.calling.dispatcher import Dispatcher
from embedq_worker.engine.money.purse import Purse
from embedq_worker.engine.money.usage import Usage
from embedq_worker.engine.texts import Shape
from embedq_worker.engine.work import Vector, content_hash
from embedq_worker.errors import ApiError
from embedq_worker.limiter import Flow, Limiter
from embedq_worker.settings import Settings
from embedq_worker.store.usage import UsagePurpose
from embedq_worker.tracing import Spans
from tests.support.dispatching import open_budgets

DIMENSIONS = 64


class Asker:
    """Waits for one vector."""

    spans: Spans = ()
    source: str | None = None
    purpose: UsagePurpose = "documents"

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.vector: Vector | None = None
        self.error: ApiError | None = None
        self.is_gone = False

    def embedded(self, vector: Vector, tokens: int, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        """It has come."""
        self.vector = vector
        self.done.set()

    def refused(self, error: ApiError, attempts: int) -> None:  # noqa: ARG002  # a Waiter
        """It will not come."""
        self.error = error
        self.done.set()


class Office(NamedTuple):
    """Dispatchers of one process."""

    settings: Settings
    client: ApiClient
    limiter: Limiter
    running: list[asyncio.Task[None]]

    def dispatcher(self, model: Model) -> Dispatcher:
        """Open the dispatcher of a model."""
        dispatcher = Dispatcher(
            model,
            client=self.client,
            limiter=self.limiter,
            purse=Purse(model, Usage(), open_budgets()),
            batch_wait=0.0,
            retry_time=60.0,
        )
        self.running.append(asyncio.create_task(dispatcher.run()))
        return dispatcher


@asynccontextmanager
async def office(broker_url: str, api_base_url: str) -> AsyncIterator[Office]:
    """Open dispatchers; at the end their calls are finished."""
    settings = Settings(broker_url=broker_url, api_base_url=api_base_url)
    limiter = Limiter(broker_url, lease=30)
    async with ApiClient(settings) as client:
        opened = Office(settings, client, limiter, [])
        try:
            yield opened
        finally:
            for task in opened.running:
                task.cancel()
            await asyncio.gather(*opened.running, return_exceptions=True)
            await limiter.close()


def ask(dispatcher: Dispatcher, text: str, *, lane: Lane = "live", collection: str = "docs") -> Asker:
    """Ask for a text's vector."""
    asker = Asker()
    purpose: Purpose = "query" if lane == "query" else "document"
    dispatcher.ask(content_hash(text), text, Shape(DIMENSIONS, purpose), Flow(lane, collection), asker)
    return asker
