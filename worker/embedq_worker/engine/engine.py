"""The engine: one asyncio thread a process, from messages to committed rows."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Any

from embedq.errors import EmbedqError
from embedq_worker.cancelling import cancel_all
from embedq_worker.engine.delivery import Delivery
from embedq_worker.engine.monitoring.pulse import Pulse
from embedq_worker.engine.parts import Parts
from embedq_worker.engine.taking import give_back
from embedq_worker.logs import Field, failure, get_logger
from embedq_worker.settings import Settings

logger = get_logger(__name__)

_TAKE_IN_FOR = 0.005
"""Seconds for which deliveries are taken in one go."""


class Engine:
    """Takes deliveries from any thread.

    ``on_queues`` is called, on the engine's thread, with the queues to consume, ``on_budgets`` when other
    texts wait for money than before, and ``on_failed`` if it could not be opened: what it is handed then
    waits until it is given back. ``chores`` run on its loop from its start to its end. No call is made while
    ``may_call`` says no. ``hub`` is the pulse of the thread that fetches.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        hub: Pulse,
        on_queues: Callable[[frozenset[str]], None],
        on_budgets: Callable[[], None],
        on_failed: Callable[[], None],
        chores: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        may_call: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._on_queues = on_queues
        self._on_budgets = on_budgets
        self._on_failed = on_failed
        self._chores = chores
        self._may_call = may_call
        self._incoming: deque[Delivery] = deque()
        self._thread = threading.Thread(target=self._run, name="embedq-engine", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._poked = False
        self._parts: Parts | None = None
        """Once they are open."""
        self._draining: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, delivery: Delivery) -> None:
        """Hand over a message's content.

        Its ``finish`` is called when everything that it says is committed, or given back.
        """
        self._incoming.append(delivery)
        if not self._poked:
            self._poked = True
            self._loop.call_soon_threadsafe(self._take_in)

    def release(self) -> None:
        """Give back what waits for its turn; calls in flight end, and what they bring is written."""
        if threading.current_thread() is self._thread:
            self._release()
        else:
            self._loop.call_soon_threadsafe(self._release)

    def is_held(self, queue: str) -> bool:
        """Whether texts of a queue wait for money, or for a paused model. From any thread."""
        return self._parts is not None and self._parts.is_held(queue)

    def drain(self) -> Future[None]:
        """Give back what waits, and let calls in flight be answered and written: see ``Parts.drain``."""
        return asyncio.run_coroutine_threadsafe(self._drain(), self._loop)

    def stop(self) -> None:
        """Stop the thread; what is unfinished stays so."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._open())
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._close())
            self._loop.close()

    async def _open(self) -> None:
        try:
            parts = Parts(
                self._settings,
                on_queues=self._on_queues,
                on_budgets=self._on_budgets,
                may_call=self._may_call,
                hub=self._hub,
            )
            await parts.open([chore() for chore in self._chores])
        except Exception as error:  # a process whose engine is not there would fetch, and embed nothing
            is_ours = isinstance(error, EmbedqError)
            why: dict[str, Field] = {"error": str(error)} if is_ours else failure(error)
            sentence = "the engine could not be opened, so this worker process ends: {error}"
            logger.critical("engine_not_opened", sentence, **why)
            self._on_failed()
        else:
            self._parts = parts
            self._take_in()

    def _release(self) -> None:
        self._give_back_incoming()
        if self._parts is not None:
            self._parts.release()

    def _give_back_incoming(self) -> None:
        while self._incoming:
            delivery = self._incoming.popleft()
            if delivery.not_a_job is None or self._parts is None:
                give_back(delivery)
            else:  # nothing is to be called for it
                self._parts.take(delivery)

    async def _drain(self) -> None:
        self._draining = asyncio.current_task()
        self._give_back_incoming()
        if self._parts is not None:
            await self._parts.drain()

    async def _close(self) -> None:
        if self._draining is not None:
            await cancel_all([self._draining])  # its time may be over
        if self._parts is not None:
            await self._parts.close()
        else:  # half open
            await cancel_all([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])

    def _take_in(self) -> None:
        self._poked = False
        if self._parts is None:
            return  # not open yet: it looks again when it is
        until = monotonic() + _TAKE_IN_FOR
        while self._incoming:
            self._parts.take(self._incoming.popleft())
            if monotonic() > until:  # calls and answers go on before the rest
                self._poked = True
                self._loop.call_soon(self._take_in)
                return
