"""The dispatcher: waiting texts of one model become API calls, as the gate to the model grants them.

One dispatcher says what is wanted, never one per item; what becomes of a call is for ``calls``. While the
service refuses us or is down, the gate grants nothing, and everything but queries waits. So do the texts of
collections whose budget, or whose model's budget, is spent; those of others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from embedq_worker.api.client import ApiClient
from embedq_worker.catalogue import Model
from embedq_worker.engine.calling.asked import AskedTexts
from embedq_worker.engine.calling.batchers import Batchers
from embedq_worker.engine.calling.calls import Calls
from embedq_worker.engine.calling.retries import Retries
from embedq_worker.engine.calling.sizes import Sizes
from embedq_worker.engine.money.purse import Purse
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.texts import Batch, Shape, Waiter, WaitingText
from embedq_worker.errors import NotCalled
from embedq_worker.limiter import CallOutcome, Flow, Gate, Grant, Limiter, Limits, Want
from embedq_worker.logs import failure, get_logger
from embedq_worker.tokens import Estimator

logger = get_logger(__name__)

_NOTHING = Want(0, 0)
_CHANGED = Want(-1, 0)
"""In place of what was said, where the gate has taken something off it."""
_ASK_AGAIN = 0.1
"""Seconds until leave to call is asked for again."""
_LOOK_AGAIN = 0.02


class Dispatcher:
    """Calls the API for one model; times in seconds. ``purse`` pays for what was answered."""

    def __init__(
        self,
        model: Model,
        *,
        client: ApiClient,
        limiter: Limiter,
        batch_wait: float,
        retry_time: float,
        purse: Purse,
        may_call: Callable[[], bool] = lambda: True,
    ) -> None:
        self._model = model
        self._purse = purse
        self._may_call = may_call
        self._estimator = Estimator(model)
        self._changed = asyncio.Event()
        self._retries = Retries(self._changed.set, purse.is_held)
        self._asked = AskedTexts()
        self._said: dict[Flow, Want] = {}
        self._stopped = False
        self._gate: Gate = limiter.gate(
            model.id, Limits.of(model), on_grant=self._granted, on_pause=self._refuse_queries
        )
        self._sizes = Sizes(model, self._gate, self._estimator)
        self._line = Batchers(model, self._sizes, batch_wait, purse.is_held)
        self._calls = Calls(
            model,
            self._gate,
            client=client,
            asked=self._asked,
            retries=self._retries,
            sizes=self._sizes,
            estimator=self._estimator,
            purse=purse,
            retry_time=retry_time,
        )

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """Have ``text`` embedded for ``waiter``, when it is the turn of ``flow``.

        A text that is waiting or in flight already is not asked for twice; one that waits in line goes with
        the earlier lane, or with the collection that has money. ``key`` is the text's content hash.
        """
        if refusal := self._refusal_of_query(flow):
            waiter.refused(refusal, 0)
            return
        waiting = self._asked.get(shape, key)
        if waiting is None:
            waiting = WaitingText(key, text, self._estimator.estimate(text), monotonic(), flow, waiter)
            self._asked.add(waiting, shape)
            self._line.add(waiting, shape)
            self._changed.set()
        elif self._goes_sooner(flow, waiting.flow):
            self._bring_forward(waiting, shape, flow, waiter)
        waiting.waiters.append(waiter)

    @property
    def is_paused(self) -> bool:
        """Whether the model is not called by any worker now."""
        return bool(self._gate.paused) or self._purse.is_spent

    def is_held(self, collection: str) -> bool:
        """Whether a collection's texts wait for money, or for the paused model. From any thread."""
        return bool(self._gate.paused) or self._purse.lacks_money(collection)

    async def run(self) -> None:
        """Say what is wanted, until cancelled; calls in flight go on."""
        await steadily(self._say_wanted, f"dispatching texts of {self._model.id}")

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The calls in flight."""
        return self._calls.tasks

    async def finish_wanted(self) -> None:
        """Go on calling until nobody waits any more, the model is paused, or no call may be made."""
        while self._may_call() and not self._gate.paused and self._has_money():  # noqa: ASYNC110  # untold of two
            await asyncio.sleep(_LOOK_AGAIN)

    async def finish_calls(self) -> None:
        """Make no more calls and wait for those in flight; what waits for its turn stays waiting."""
        self._stopped = True
        for flow in self._said:
            self._gate.want(flow, _NOTHING)
        self._retries.cancel()
        await self._calls.finish()
        self.let_go()

    def follow_budgets(self) -> None:
        """Other collections must wait for money than before."""
        self._line.sort_out()
        self._retries.sort_out()
        self._refuse_queries()

    def _has_money(self) -> bool:
        """Whether a text waits that may be called for."""
        return any(not self._purse.is_held(text.flow.collection) for text in self._asked)

    def let_go(self) -> None:
        """Let go of the texts that nobody waits for any more."""
        for text, shape in self._line.texts():
            if self._asked.let_go(text, shape):
                self._line.remove(text, shape)
        self._retries.sift(self._asked.sift)
        self._changed.set()

    def _goes_sooner(self, flow: Flow, other: Flow) -> bool:
        is_held = self._purse.is_held(other.collection)
        if is_held != self._purse.is_held(flow.collection):
            return is_held
        return flow.lane == "live" and other.lane == "bulk"

    def _bring_forward(self, text: WaitingText, shape: Shape, flow: Flow, payer: Waiter) -> None:
        if self._line.remove(text, shape):
            text.flow, text.payer = flow, payer
            self._line.add(text, shape)
            self._changed.set()
        elif self._purse.is_held(text.flow.collection):  # it was called for before
            text.flow, text.payer = flow, payer
            self._retries.sort_out()

    async def _say_wanted(self) -> None:
        """Tell the gate what is due, and wait until that may have changed."""
        self._changed.clear()
        delay = self._say()
        try:
            async with asyncio.timeout(delay):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _say(self) -> float | None:
        """Tell the gate what is due; returns the seconds until something else may be."""
        wanted, delay = self._wanted()
        for flow in wanted.keys() | self._said.keys():
            want = wanted.get(flow, _NOTHING)
            if want != self._said.get(flow, _NOTHING):
                self._gate.want(flow, want)
        self._said = wanted
        return delay

    def _wanted(self) -> tuple[dict[Flow, Want], float | None]:
        """What is due, and the seconds until something else may be."""
        wanted: dict[Flow, Want] = {}
        in_line, delay = self._line.wanted()
        for flow, want in (*in_line, *self._retries.wanted()):
            self._add(wanted, flow, want)
        return wanted, delay

    def _add(self, wanted: dict[Flow, Want], flow: Flow, want: Want) -> None:
        if want.calls:
            had = wanted.get(flow, _NOTHING)
            tokens = max(had.tokens, self._sizes.to_reserve(want.tokens))
            wanted[flow] = Want(had.calls + want.calls, tokens)

    def _granted(self, grant: Grant) -> None:
        may_call = not self._stopped and self._has_leave(grant)
        batch = self._batch_for(grant) if may_call else None
        if batch is None:
            self._gate.release(grant, CallOutcome("unused"))
        else:
            self._calls.begin(batch, grant)

    def _has_leave(self, grant: Grant) -> bool:
        """Whether what is in hand is still ours: else another process may be calling for it."""
        if not self._may_call():
            self._said[grant.flow] = _CHANGED
            asyncio.get_running_loop().call_later(_ASK_AGAIN, self._changed.set)
            return False
        return True

    def _batch_for(self, grant: Grant) -> Batch | None:
        """What to call now. An exception must not end the gate, which renews the leases of all calls."""
        batch = None
        self._said[grant.flow] = _CHANGED
        try:
            batch = self._next_batch(grant)
            # At once: the gate may ask again before we run, and would ask for too much.
            if self._say() is not None:
                self._changed.set()  # what is not due yet has to be waited for
        except Exception as error:
            sentence = "a call of model {model} could not be made: {error}"
            logger.error("call_not_made", sentence, model=self._model.id, **failure(error))
        return batch

    def _next_batch(self, grant: Grant) -> Batch | None:
        """One to be tried again, else what waits in the grant's lane, for its collection first.

        While nothing is answered the other way round: what failed before may be why.
        """
        most = self._sizes.reserved(grant)
        if self._calls.is_answering:
            return self._failed_before(grant, most) or self._fresh(grant, most)
        return self._fresh(grant, most) or self._failed_before(grant, most)

    def _failed_before(self, grant: Grant, most: float) -> Batch | None:
        while again := self._retries.next(grant.flow, most):
            if self._asked.sift(again):
                return again
        return None

    def _fresh(self, grant: Grant, most: float) -> Batch | None:
        while batch := self._line.take(grant.flow, most):
            if self._asked.sift(batch):
                return batch
        return None

    def _refuse_queries(self) -> None:
        """The model is paused, or a budget spent: who asked a query is told at once, not left to wait."""
        for text, shape in self._line.texts(["query"]):
            if refusal := self._refusal_of_query(text.flow):
                self._line.remove(text, shape)
                self._asked.refuse(text, shape, refusal)
        self._retries.sift(lambda batch: not self._refuse_query(batch))
        self._changed.set()

    def _refuse_query(self, batch: Batch) -> bool:
        refusal = self._refusal_of_query(batch.flow)
        if refusal is None:
            return False
        for text in batch.texts:
            self._asked.refuse(text, batch.shape, refusal)
        return True

    def _refusal_of_query(self, flow: Flow) -> NotCalled | None:
        """Why a query of a collection would wait for nothing that comes soon; None of other lanes."""
        if flow.lane != "query":
            return None
        if self._gate.paused:
            return NotCalled("paused", self._gate.paused)
        reason = self._purse.reason(flow.collection)
        return None if reason is None else NotCalled("budget", reason)
