"""The gate to one model: a dispatcher says what it wants, and is given calls to make when it is its turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf

from embedq_worker.limiter.exchange import CallOutcome, Flow, Grant, Handed, Reply, Request, Want
from embedq_worker.limiter.position import Position
from embedq_worker.logs import get_logger

logger = get_logger(__name__)

Exchange = Callable[[Request], Awaitable[Reply]]


class Gate:
    """One model's limits as this process meets them. All of it runs on one event loop.

    ``on_grant`` is called with each call that may be made now: it makes one, and ends with ``release``.
    ``on_wait`` is called when something is wanted that was not granted: slots may be handed over from now on.
    ``on_pause`` is called when something has to wait because the model is paused.
    """

    def __init__(
        self,
        exchange: Exchange,
        position: Position,
        *,
        on_grant: Callable[[Grant], None],
        on_pause: Callable[[], None],
        on_wait: Callable[[], None],
    ) -> None:
        self._exchange = exchange
        self._position = position
        self._on_grant = on_grant
        self._on_pause = on_pause
        self._on_wait = on_wait
        self._changed = asyncio.Event()

    @property
    def model(self) -> str:
        """The model's id."""
        return self._position.model

    @property
    def waits(self) -> bool:
        """Whether something is wanted that has not been granted."""
        return self._position.waits

    @property
    def paused(self) -> str | None:
        """Why the model is not called by anybody; None while it is, and when it may be tried again.

        From any thread.
        """
        return None if self._position.may_be_tried else self._position.paused

    @property
    def tokens_per_minute(self) -> int | None:
        """The limit that holds now, None without one."""
        return self._position.tokens_per_minute

    @property
    def requests_per_minute(self) -> int | None:
        """The limit that holds now, None without one."""
        return self._position.requests_per_minute

    def want(self, flow: Flow, want: Want) -> None:
        """So much is wanted for a flow now, instead of what was said before."""
        self._position.want(flow, want)
        self._changed.set()

    def release(self, grant: Grant, outcome: CallOutcome) -> None:
        """The call has ended."""
        self._position.end(grant, outcome)
        self._changed.set()

    def hand(self, handed: Handed) -> None:
        """Something came through the mailbox."""
        self._position.hand(handed)
        self._changed.set()

    async def run(self) -> None:
        """Exchange with the fleet whenever there is something to say, until cancelled."""
        while True:
            await self._until_due()
            await self._exchange_once()

    async def flush(self) -> None:
        """Say what is left to say, once: after ``run`` was cancelled."""
        if not self._position.is_idle:
            await self._exchange_once()

    async def _until_due(self) -> None:
        clock = asyncio.get_running_loop().time
        while (due := self._position.due_at()) > clock():
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if due == inf else due):
                    await self._changed.wait()

    async def _exchange_once(self) -> None:
        request = self._position.compose()
        try:
            reply = await self._exchange(request)
        except BaseException:  # also a cancellation: whether it was heard is not known
            self._position.lost(request)
            raise
        self._say(reply)
        for grant in self._position.apply(request, reply):
            self._on_grant(grant)
        if self._position.waits:
            self._on_wait()
        if reply.why == "paused":
            self._on_pause()

    def _say(self, reply: Reply) -> None:
        """Only the process whose call turned the breaker is told, so that it is said once a fleet."""
        model = self._position.model
        if reply.opened:
            sentence = "model {model} is paused for all workers, its texts wait: {reason}"
            logger.error("model_paused", sentence, model=model, reason=reply.opened)
        if reply.closed:
            logger.warning("model_resumed", "model {model} answers again, for all workers", model=model)
