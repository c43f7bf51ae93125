"""The calls of one model, and what becomes of their texts.

A transient failure is tried again with full jitter; a batch that the service cannot take is split in halves
until the bad text is alone. What is to be tried again waits for its turn like everything else.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from embedq_worker.api.client import ApiClient
from embedq_worker.api.response import Answer
from embedq_worker.catalogue import Model
from embedq_worker.engine.calling.asked import AskedTexts
from embedq_worker.engine.calling.blame import Blame
from embedq_worker.engine.calling.call_meter import CallMeter
from embedq_worker.engine.calling.retries import Retries
from embedq_worker.engine.calling.sizes import Sizes
from embedq_worker.engine.calling.verdicts import is_overload, outcome_of, outcome_of_answer
from embedq_worker.engine.money.purse import Purse
from embedq_worker.engine.texts import Batch, shares
from embedq_worker.errors import ApiError, BadInput, Refused, Transient
from embedq_worker.limiter import CallOutcome, Gate, Grant
from embedq_worker.logs import failure, get_logger
from embedq_worker.tokens import Estimator
from embedq_worker.tracing import TRACES

logger = get_logger(__name__)

_REFUSALS = 3
"""Refusals of one text alone, each after answers to others, after which it is a dead letter."""
_STRIKES = 10
"""Failures in a row of one text alone, while the service was well, after which it is one. Too few, and texts
die that the service is merely unlucky with."""
_STRIKES_TOGETHER = 2
"""The same after which a batch is tried in halves."""


class Calls:
    """Makes calls and ends the grants that they were made by.

    ``asked`` hears of each text that has its vector or gets none, ``retries`` takes what is to be tried
    again, ``purse`` pays for what was answered. ``retry_time``: seconds of failures after which a batch is
    tried in halves.
    """

    def __init__(
        self,
        model: Model,
        gate: Gate,
        *,
        client: ApiClient,
        asked: AskedTexts,
        retries: Retries,
        sizes: Sizes,
        estimator: Estimator,
        purse: Purse,
        retry_time: float,
    ) -> None:
        self._model = model
        self._gate = gate
        self._client = client
        self._asked = asked
        self._retries = retries
        self._sizes = sizes
        self._estimator = estimator
        self._purse = purse
        self._retry_time = retry_time
        self._meter = CallMeter(model)
        self._tasks: set[asyncio.Task[None]] = set()
        self._blame = Blame()
        self.is_answering = True
        """Whether the last call was answered."""

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The calls in flight."""
        return list(self._tasks)

    def begin(self, batch: Batch, grant: Grant) -> None:
        """Make a call, which goes on by itself."""
        call = asyncio.create_task(self._call(batch, grant))
        self._tasks.add(call)
        call.add_done_callback(self._ended)

    async def finish(self) -> None:
        """Wait for those in flight."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _call(self, batch: Batch, grant: Grant) -> None:
        began = self._meter.begin(batch, self._sizes.most())
        for text in batch.texts:
            text.attempts += 1
        outcome = CallOutcome("dropped")
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
            outcome = outcome_of_answer(batch.texts, answer)
            self._answered(batch, answer)
        finally:
            self._meter.end(outcome, began)
            self._gate.release(grant, outcome)

    async def _embed(self, batch: Batch) -> Answer:
        texts = [text.text for text in batch.texts]
        with TRACES.call(self._model.id, len(texts), batch.spans):
            return await self._client.embed(self._model, texts, batch.shape.dimensions, batch.shape.purpose)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._tasks.discard(call)
        error = None if call.cancelled() else call.exception()
        if isinstance(error, Exception):
            sentence = "a call of model {model} ended with an exception of our own: {error}"
            logger.error("call_broken_off", sentence, model=self._model.id, **failure(error))

    def _answered(self, batch: Batch, answer: Answer) -> None:
        self.is_answering = True
        self._blame.answered(batch)
        self._purse.pay(batch.texts, answer.tokens)
        tokens = shares(batch.texts, answer.tokens)
        for text, vector, share in zip(batch.texts, answer.vectors, tokens, strict=True):
            self._asked.embedded(text, batch.shape, vector, share)
        self._estimator.learn([text.text for text in batch.texts], answer.tokens)

    def _failed(self, batch: Batch, error: ApiError) -> None:
        if isinstance(error, BadInput):
            self.is_answering = True
            self._split(batch, error)
            return
        self.is_answering = False
        if isinstance(error, Refused):
            self._refused(batch, error)
        else:
            self._retry(batch, error)

    def _refused(self, batch: Batch, error: Refused) -> None:
        """Keep the batch: the breaker says when to try.

        One that is refused while others are answered, as by a firewall that dislikes a text, is at fault.
        """
        is_its_own = self._blame.failed(batch)
        batch.refusals += is_its_own
        if is_its_own and (len(batch.texts) > 1 or batch.refusals >= _REFUSALS):
            self._split(batch, error)
        elif self._asked.sift(batch):
            self._retries.add(batch)

    def _split(self, batch: Batch, error: ApiError) -> None:
        """Halve the batch until the text that the service refuses is alone; its neighbours are embedded."""
        if len(batch.texts) == 1:
            self._asked.refuse(batch.texts[0], batch.shape, error)
            return
        for half in self._blame.halves(batch):
            if self._asked.sift(half):
                self._retries.add(half)

    def _retry(self, batch: Batch, error: ApiError) -> None:
        """Try again later; in halves where it is to blame, or after long: no text holds up its neighbours."""
        batch.first_failure = batch.first_failure or monotonic()
        if is_overload(error):
            self._blame.overloaded(batch)
        else:
            self._blame.failed(batch)
        if len(batch.texts) == 1 and batch.strikes >= _STRIKES:
            self._asked.refuse(batch.texts[0], batch.shape, error)
            return
        for part in batch.halves() if self._is_to_be_halved(batch) else (batch,):
            if self._asked.sift(part):
                self._say_again(part, self._retries.add_later(part), error)

    def _is_to_be_halved(self, batch: Batch) -> bool:
        is_late = monotonic() - batch.first_failure > self._retry_time
        return len(batch.texts) > 1 and (is_late or batch.strikes >= _STRIKES_TOGETHER)

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
