"""The dispatcher: waiting texts of one model and shape become API calls, as the limiter grants them.

One dispatcher asks for slots, never one per item. A transient failure is tried again with full jitter; a
batch that the service cannot take is split in halves until the bad text is alone; while the service refuses
us, everything waits.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from embedq_worker.api.client import ApiClient
from embedq_worker.api.request import Purpose
from embedq_worker.api.response import Answer
from embedq_worker.catalogue import Model
from embedq_worker.engine.batcher import Batcher, Waiter, WaitingText
from embedq_worker.engine.breaker import LONGEST_WISH, Breaker
from embedq_worker.engine.steady import described, steadily
from embedq_worker.errors import ApiError, BadInput, Refused
from embedq_worker.limiter.limiter import Gate, Slot

logger = logging.getLogger(__name__)

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0


@dataclass(slots=True, eq=False)
class Batch:
    """The texts of one API request, and its failures so far.

    ``first_failure`` by the monotonic clock, seconds.
    """

    texts: list[WaitingText]
    failures: int = 0
    first_failure: float = 0.0


class Dispatcher:
    """Calls the API for one model, its dimensions and one purpose."""

    def __init__(
        self,
        model: Model,
        dimensions: int,
        purpose: Purpose,
        *,
        client: ApiClient,
        gate: Gate,
        batch_wait: float,
        retry_time: float,
    ) -> None:
        self._model = model
        self._dimensions = dimensions
        self._purpose = purpose
        self._client = client
        self._gate = gate
        self._batch_wait = batch_wait
        self._retry_time = retry_time
        self._batcher = Batcher(model, monotonic)
        self._again: deque[Batch] = deque()
        self._asked: dict[bytes, WaitingText] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._retries: dict[Batch, asyncio.TimerHandle] = {}
        self._breaker = Breaker(monotonic)
        self._changed = asyncio.Event()

    def ask(self, key: bytes, text: str, waiter: Waiter) -> None:
        """Have ``text`` embedded for ``waiter``.

        A text that is waiting or in flight already is not asked for twice.

        ``key`` is the text's content hash.
        """
        waiting = self._asked.get(key)
        if waiting is None:
            waiting = WaitingText(key, text, self._estimate(text), monotonic())
            self._asked[key] = waiting
            self._batcher.add(waiting)
            self._changed.set()
        waiting.waiters.append(waiter)

    async def run(self) -> None:
        """Make calls until cancelled; calls in flight go on."""
        await steadily(self._call_next, f"dispatching texts of {self._model.id}")

    async def _call_next(self) -> None:
        await self._until_due()
        slot = await self._gate.acquire()
        batch = self._next_batch() if self._due_in() == 0 else None  # the breaker may have opened meanwhile
        if batch is None:
            await slot.release()
            return
        call = asyncio.create_task(self._call(batch, slot))
        self._calls.add(call)
        call.add_done_callback(self._call_ended)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The calls in flight."""
        return list(self._calls)

    async def finish_calls(self) -> None:
        """Wait for the calls in flight; what waits for its turn stays waiting."""
        for retry in self._retries.values():
            retry.cancel()
        while self._calls:
            await asyncio.wait(self._calls)

    async def _until_due(self) -> None:
        """Wait until a call should be made: a full batch, an old enough text, a retry, and no pause."""
        while True:
            self._changed.clear()
            delay = self._due_in()
            if delay == 0:
                return
            try:
                async with asyncio.timeout(delay):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _due_in(self) -> float | None:
        """Seconds until a call is due; None when only a change can make one due."""
        if not self._again and not self._batcher:
            return None
        if not self._breaker.is_closed:
            if self._calls:
                return None  # the probe is under way
            return self._breaker.wait()
        if self._again or self._batcher.full:
            return 0.0
        return max(0.0, self._batch_wait - self._batcher.oldest_wait)

    def _next_batch(self) -> Batch | None:
        if self._again:
            return self._again.popleft()
        texts = self._batcher.take()
        return Batch(texts) if texts else None

    async def _call(self, batch: Batch, slot: Slot) -> None:
        for text in batch.texts:
            text.attempts += 1
        try:
            answer = await self._client.embed(
                self._model, [text.text for text in batch.texts], self._dimensions, self._purpose
            )
        except ApiError as error:
            self._failed(batch, error)
        except Exception as error:
            logger.error("a call of model %s failed in our own code: %s", self._model.id, described(error))
            self._failed(batch, Refused(code="unexpected"))
        else:
            self._answered(batch, answer)
        finally:
            await slot.release()

    def _call_ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._changed.set()
        error = None if call.cancelled() else call.exception()
        if isinstance(error, Exception):
            logger.error("an API call ended with an exception of our own: %s", described(error))

    def _answered(self, batch: Batch, answer: Answer) -> None:
        if not self._breaker.is_closed:
            logger.warning("model %s answers again", self._model.id)
            self._breaker.close()
        for text in batch.texts:
            del self._asked[text.key]
        for text, vector, tokens in zip(
            batch.texts, answer.vectors, _shares(batch.texts, answer.tokens), strict=True
        ):
            text.embedded(vector, tokens)

    def _failed(self, batch: Batch, error: ApiError) -> None:
        if isinstance(error, BadInput):
            self._split(batch, error)
        elif isinstance(error, Refused):
            self._pause(batch, error)
        else:
            self._retry(batch, error)

    def _split(self, batch: Batch, error: BadInput) -> None:
        """Halve the batch until the text that the service refuses is alone; its neighbours are embedded."""
        texts = batch.texts
        if len(texts) == 1:
            del self._asked[texts[0].key]
            texts[0].refused(error)
            return
        half = len(texts) // 2
        self._again.extend((Batch(texts[:half]), Batch(texts[half:])))

    def _pause(self, batch: Batch, error: ApiError) -> None:
        """The service is down or refuses us: keep the texts, call nobody, probe later."""
        if self._breaker.is_closed:
            logger.error("model %s is paused, its texts wait: %s", self._model.id, error)
        self._breaker.open(str(error), error.retry_after or 0.0)
        self._again.appendleft(Batch(batch.texts))

    def _retry(self, batch: Batch, error: ApiError) -> None:
        """Try again after a random part of a growing delay; when that has gone on too long, pause."""
        now = monotonic()
        batch.failures += 1
        batch.first_failure = batch.first_failure or now
        if now - batch.first_failure > self._retry_time or not self._breaker.is_closed:
            self._pause(batch, error)
            return
        ceiling = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (batch.failures - 1))
        delay = min(error.retry_after or 0.0, LONGEST_WISH) + random.uniform(0, ceiling)  # noqa: S311 - jitter
        logger.info("a call of model %s failed, again in %.1f s: %s", self._model.id, delay, error)
        self._retries[batch] = asyncio.get_running_loop().call_later(delay, self._due_again, batch)

    def _due_again(self, batch: Batch) -> None:
        del self._retries[batch]
        self._again.append(batch)
        self._changed.set()

    def _estimate(self, text: str) -> int:
        size = len(text) if text.isascii() else len(text.encode())
        return int(size * self._model.tokens_per_byte) + 1


def _shares(texts: Sequence[WaitingText], tokens: int | None) -> list[int]:
    """Each text's share of a request's tokens, by its characters; the shares add up to ``tokens``."""
    total = sum(text.characters for text in texts)
    shares: list[int] = []
    characters = given = 0
    for text in texts:
        characters += text.characters
        shares.append((tokens or 0) * characters // total - given)
        given += shares[-1]
    return shares
