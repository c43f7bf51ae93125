"""The dispatcher: waiting texts of one model become API calls, as the gate to the model grants them.

One dispatcher says what is wanted, never one per item. A transient failure is tried again with full jitter;
a batch that the service cannot take is split in halves until the bad text is alone. While the service
refuses us or is down, the gate grants nothing, and everything but queries waits. So do the texts of
collections whose budget, or whose model's budget, is spent; those of others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from embedq.contract import Lane
from embedq_worker.api.client import ApiClient
from embedq_worker.api.response import Answer
from embedq_worker.catalogue import Model
from embedq_worker.engine.batcher import Batcher
from embedq_worker.engine.call_meter import CallMeter
from embedq_worker.engine.purse import Purse
from embedq_worker.engine.retries import Retries
from embedq_worker.engine.sizes import Sizes
from embedq_worker.engine.steady import steadily
from embedq_worker.engine.texts import Batch, Shape, Waiter, WaitingText, shares
from embedq_worker.engine.verdicts import outcome_of, outcome_of_answer
from embedq_worker.errors import ApiError, BadInput, NotCalled, Refused, Transient
from embedq_worker.limiter import Flow, Gate, Grant, Limiter, Limits, Outcome, Want
from embedq_worker.logs import failure, get_logger
from embedq_worker.tokens import Estimator
from embedq_worker.tracing import TRACES

logger = get_logger(__name__)

_NOTHING = Want(0, 0)
_CHANGED = Want(-1, 0)
"""In place of what was said, where the gate has taken something off it."""
_ASK_AGAIN = 0.1
"""Seconds until leave to call is asked for again."""
_LOOK_AGAIN = 0.02
_REFUSALS = 3
"""Refusals of one text alone, with answers to others between, after which it is a dead letter."""
_ABANDONED = NotCalled("abandoned", "nobody waits for it any more")


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
        self._client = client
        self._batch_wait = batch_wait
        self._retry_time = retry_time
        self._may_call = may_call
        self._estimator = Estimator(model)
        self._changed = asyncio.Event()
        self._batchers: dict[tuple[Shape, Lane], Batcher] = {}
        self._retries = Retries(self._changed.set, purse.is_held)
        self._asked: dict[tuple[Shape, bytes], WaitingText] = {}
        self._said: dict[Flow, Want] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._is_answering = True
        """Whether the last call was answered."""
        self._answers = 0
        self._gate: Gate = limiter.gate(
            model.id, Limits.of(model), on_grant=self._granted, on_pause=self._refuse_queries
        )
        self._meter = CallMeter(model)
        self._sizes = Sizes(model, self._gate, self._estimator)

    def ask(self, key: bytes, text: str, shape: Shape, flow: Flow, waiter: Waiter) -> None:
        """Have ``text`` embedded for ``waiter``, when it is the turn of ``flow``.

        A text that is waiting or in flight already is not asked for twice; one that waits in line goes with
        the earlier lane, or with the collection that has money. ``key`` is the text's content hash.
        """
        if flow.lane == "query" and (refusal := self._refusal(flow.collection)):
            waiter.refused(refusal, 0)
            return
        waiting = self._asked.get((shape, key))
        if waiting is None:
            waiting = WaitingText(key, text, self._estimator.estimate(text), monotonic(), flow, waiter)
            self._asked[shape, key] = waiting
            self._batcher(shape, flow.lane).add(waiting)
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
        return list(self._calls)

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
        while self._calls:
            await asyncio.wait(self._calls)
        self.let_go()

    def follow_budgets(self) -> None:
        """Other collections must wait for money than before."""
        for batcher in self._batchers.values():
            batcher.sort_out()
        self._retries.sort_out()
        self._refuse_queries()

    def _has_money(self) -> bool:
        """Whether a text waits that may be called for."""
        return any(not self._purse.is_held(text.flow.collection) for text in self._asked.values())

    def let_go(self) -> None:
        """Let go of the texts that nobody waits for any more."""
        for (shape, _), batcher in self._batchers.items():
            for text in batcher.texts():
                if self._is_abandoned(text, shape):
                    batcher.remove(text)
        self._retries.sift(self._is_wanted)
        self._changed.set()

    def _batcher(self, shape: Shape, lane: Lane) -> Batcher:
        if (shape, lane) not in self._batchers:
            self._batchers[shape, lane] = Batcher(
                self._model, self._sizes.most(), monotonic, self._purse.is_held
            )
        return self._batchers[shape, lane]

    def _goes_sooner(self, flow: Flow, other: Flow) -> bool:
        is_held = self._purse.is_held(other.collection)
        if is_held != self._purse.is_held(flow.collection):
            return is_held
        return flow.lane == "live" and other.lane == "bulk"

    def _bring_forward(self, text: WaitingText, shape: Shape, flow: Flow, payer: Waiter) -> None:
        if self._batcher(shape, text.flow.lane).remove(text):
            text.flow, text.payer = flow, payer
            self._batcher(shape, flow.lane).add(text)
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
        delays: list[float] = []
        most_tokens = self._sizes.most()
        for (_, lane), batcher in self._batchers.items():
            batcher.most_tokens = most_tokens
            left = self._due_in(batcher, lane)
            if left == 0:
                for collection, want in batcher.wanted().items():
                    self._add(wanted, Flow(lane, collection), want)
            elif left is not None:
                delays.append(left)
        for flow, want in self._retries.wanted():
            self._add(wanted, flow, want)
        return wanted, min(delays, default=None)

    def _add(self, wanted: dict[Flow, Want], flow: Flow, want: Want) -> None:
        if want.calls:
            had = wanted.get(flow, _NOTHING)
            tokens = max(had.tokens, self._sizes.to_reserve(want.tokens))
            wanted[flow] = Want(had.calls + want.calls, tokens)

    def _due_in(self, batcher: Batcher, lane: Lane) -> float | None:
        if not batcher:
            return None
        if lane == "query" or batcher.full:
            return 0.0
        return max(0.0, self._batch_wait - batcher.oldest_wait)

    def _granted(self, grant: Grant) -> None:
        may_call = not self._stopped and self._has_leave(grant)
        batch = self._batch_for(grant) if may_call else None
        if batch is None:
            self._gate.release(grant, Outcome("unused"))
            return
        call = asyncio.create_task(self._call(batch, grant))
        self._calls.add(call)
        call.add_done_callback(self._call_ended)

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
        if self._is_answering:
            return self._failed_before(grant, most) or self._fresh(grant, most)
        return self._fresh(grant, most) or self._failed_before(grant, most)

    def _failed_before(self, grant: Grant, most: float) -> Batch | None:
        while again := self._retries.next(grant.flow, most):
            if self._is_wanted(again):
                return again
        return None

    def _fresh(self, grant: Grant, most: float) -> Batch | None:
        lane = [(shape, batcher) for (shape, lane), batcher in self._batchers.items() if lane == grant.lane]
        for shape, batcher in lane:
            if batcher.has(grant.collection):
                return self._take(shape, batcher, grant.collection, most)
        for shape, batcher in lane:
            if self._due_in(batcher, grant.lane) == 0:
                return self._take(shape, batcher, grant.collection, most)
        return None

    def _take(self, shape: Shape, batcher: Batcher, collection: str, most_tokens: float) -> Batch | None:
        while texts := batcher.take(collection, most_tokens):
            batch = Batch(texts, shape)
            if self._is_wanted(batch):
                return batch
        return None

    def _is_wanted(self, batch: Batch) -> bool:
        """Take the texts out that nobody waits for any more; whether others are left."""
        batch.texts = [text for text in batch.texts if not self._is_abandoned(text, batch.shape)]
        return bool(batch.texts)

    def _is_abandoned(self, text: WaitingText, shape: Shape) -> bool:
        is_abandoned = text.let_go(_ABANDONED)
        if is_abandoned:
            del self._asked[shape, text.key]
        return is_abandoned

    async def _call(self, batch: Batch, grant: Grant) -> None:
        began = self._meter.begin(batch, self._sizes.most())
        for text in batch.texts:
            text.attempts += 1
        outcome = Outcome("dropped")
        try:
            answer = await self._embed(batch)
        except ApiError as error:
            outcome = outcome_of(error)
            self._failed(batch, error)
        except Exception as error:
            sentence = "a call of model {model} failed in our own code: {error}"
            logger.error("call_defective", sentence, model=self._model.id, **failure(error))
            self._retry(batch, Transient(code="unexpected"))
        else:
            self._is_answering = True
            self._answers += 1
            outcome = outcome_of_answer(batch.texts, answer)
            self._answered(batch, answer)
        finally:
            self._meter.end(outcome, began)
            self._gate.release(grant, outcome)

    async def _embed(self, batch: Batch) -> Answer:
        texts = [text.text for text in batch.texts]
        with TRACES.call(self._model.id, len(texts), batch.spans):
            return await self._client.embed(self._model, texts, batch.shape.dimensions, batch.shape.purpose)

    def _call_ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        error = None if call.cancelled() else call.exception()
        if isinstance(error, Exception):
            sentence = "a call of model {model} ended with an exception of our own: {error}"
            logger.error("call_broken_off", sentence, model=self._model.id, **failure(error))

    def _answered(self, batch: Batch, answer: Answer) -> None:
        self._purse.pay(batch.texts, answer.tokens)
        tokens = shares(batch.texts, answer.tokens)
        for text, vector, share in zip(batch.texts, answer.vectors, tokens, strict=True):
            del self._asked[batch.shape, text.key]
            text.embedded(vector, share)
        self._estimator.learn([text.text for text in batch.texts], answer.tokens)

    def _failed(self, batch: Batch, error: ApiError) -> None:
        if isinstance(error, BadInput):
            self._is_answering = True
            self._split(batch, error)
            return
        self._is_answering = False
        if isinstance(error, Refused):
            self._refused(batch, error)
        else:
            self._retry(batch, error)

    def _refused(self, batch: Batch, error: Refused) -> None:
        """Keep the batch: the breaker says when to try.

        One that is refused while others are answered, as by a firewall that dislikes a text, is at fault.
        """
        is_its_own = batch.failures > 0 and self._answers > batch.answers_before
        batch.failures += 1
        batch.answers_before = self._answers
        if is_its_own and (len(batch.texts) > 1 or batch.failures > _REFUSALS):
            self._split(batch, error)
        elif self._is_wanted(batch):
            self._retries.add(batch)

    def _split(self, batch: Batch, error: ApiError) -> None:
        """Halve the batch until the text that the service refuses is alone; its neighbours are embedded."""
        if len(batch.texts) == 1:
            self._refuse(batch.texts[0], batch.shape, error)
            return
        for half in batch.halves():
            if self._is_wanted(half):
                self._retries.add(half)

    def _retry(self, batch: Batch, error: ApiError) -> None:
        """Try again later; when that has gone on for long in halves: no text holds up its neighbours."""
        now = monotonic()
        batch.failures += 1
        batch.first_failure = batch.first_failure or now
        is_late = now - batch.first_failure > self._retry_time and len(batch.texts) > 1
        for part in batch.halves() if is_late else (batch,):
            if not self._is_wanted(part):
                continue
            delay = self._retries.add_later(part)
            self._say_again(part, delay, error)

    def _say_again(self, batch: Batch, delay: float, error: ApiError) -> None:
        logger.info(
            "call_failed",
            "a call of model {model} failed, again in {seconds:.1f} s: {reason}",
            model=self._model.id,
            texts=len(batch.texts),
            seconds=delay,
            status=error.status,
            code=error.code,
            reason=str(error),
        )

    def _refuse_queries(self) -> None:
        """The model is paused, or a budget spent: who asked a query is told at once, not left to wait."""
        for (shape, lane), batcher in self._batchers.items():
            for text in batcher.texts() if lane == "query" else ():
                if refusal := self._refusal(text.flow.collection):
                    batcher.remove(text)
                    self._refuse(text, shape, refusal)
        self._retries.sift(lambda batch: not self._refuse_query(batch))
        self._changed.set()

    def _refuse_query(self, batch: Batch) -> bool:
        refusal = self._refusal(batch.flow.collection) if batch.flow.lane == "query" else None
        for text in batch.texts if refusal else ():
            self._refuse(text, batch.shape, refusal or _ABANDONED)
        return refusal is not None

    def _refusal(self, collection: str) -> NotCalled | None:
        """Why a query of a collection would wait for nothing that comes soon."""
        if self._gate.paused:
            return NotCalled("paused", self._gate.paused)
        reason = self._purse.reason(collection)
        return None if reason is None else NotCalled("budget", reason)

    def _refuse(self, text: WaitingText, shape: Shape, error: ApiError) -> None:
        del self._asked[shape, text.key]
        text.refused(error)
