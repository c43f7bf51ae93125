"""What the fake API counts: calls, calls in flight, statuses, billed texts, rates against limits."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from embedq.testing.control import Behaviour, CallRecord, ModelStats, Stats, Wait

MAX_RECORDS = 100_000
"""Calls that are remembered one by one; older ones are only counted."""


class Meter:
    """Counts from one reset to the next."""

    def __init__(self) -> None:
        self.records: deque[CallRecord] = deque(maxlen=MAX_RECORDS)
        self._total = Stats()
        self._billed: dict[bytes, tuple[CallRecord, ...]] = {}
        self._waiters: list[asyncio.Future[None]] = []

    @contextmanager
    def call(self, model: str, texts: int, tokens: int, key: str = "") -> Iterator[CallRecord]:
        """Count one call, which is in flight inside the ``with``."""
        own = self.model(model)
        counted = (self._total, own)
        record = CallRecord(model, time.monotonic(), texts, tokens, in_flight=own.in_flight + 1, key=key)
        for stats in counted:
            stats.calls += 1
            stats.texts += texts
            stats.in_flight += 1
            stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        self.records.append(record)
        self._wake()
        try:
            yield record
        finally:
            record.ended = time.monotonic()
            for stats in counted:
                stats.in_flight -= 1
                stats.statuses[record.status] = stats.statuses.get(record.status, 0) + 1
            self._wake()

    def model(self, model: str) -> ModelStats:
        """The counts of one model."""
        return self._total.models.setdefault(model, ModelStats())

    def bill(self, record: CallRecord, digests: Iterable[bytes]) -> None:
        """Note that a call's texts were answered for, whole and right."""
        call = (record,)
        for digest in digests:
            self._billed[digest] = self._billed.get(digest, ()) + call

    def times_billed(self, digests: Iterable[bytes]) -> list[int]:
        """How often each of these texts was billed."""
        return [len(calls) for calls in self.billings(digests)]

    def billings(self, digests: Iterable[bytes]) -> list[tuple[CallRecord, ...]]:
        """The calls for which each of these texts was billed, oldest first."""
        return [self._billed.get(digest, ()) for digest in digests]

    def stats(self) -> Stats:
        """The counts of now."""
        self._total.billed_texts = len(self._billed)
        self._total.billed_again = sum(len(calls) > 1 for calls in self._billed.values())
        return self._total

    async def wait_for(self, wait: Wait) -> bool:
        """Whether it came true in time."""
        try:
            async with asyncio.timeout(wait.timeout):
                while not self._meets(wait):
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            return False
        return True

    def _meets(self, wait: Wait) -> bool:
        total = self._total
        enough = total.calls >= wait.calls and total.in_flight >= wait.in_flight
        return enough and not (wait.idle and total.in_flight)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class RateWindow:
    """The admitted calls of one model within the last ``minute``."""

    def __init__(self) -> None:
        self._admitted: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def admit(self, behaviour: Behaviour, tokens: int, now: float) -> float:
        """Admit a call and return 0.0, or return the seconds until one like it may be admitted."""
        self._forget(now - behaviour.minute)
        wait = max(self._until_request(behaviour, now), self._until_tokens(behaviour, tokens, now))
        if wait <= 0.0:
            self._admitted.append((now, tokens))
            self._tokens += tokens
        return wait

    def headers(self, behaviour: Behaviour, now: float) -> dict[str, str]:
        """OpenAI's ``x-ratelimit-*`` headers for the limits that are set."""
        headers: dict[str, str] = {}
        self._forget(now - behaviour.minute)
        oldest = self._admitted[0][0] if self._admitted else now - behaviour.minute
        reset = duration(max(0.0, oldest + behaviour.minute - now))
        for kind, limit, used in (
            ("requests", behaviour.requests_per_minute, len(self._admitted)),
            ("tokens", behaviour.tokens_per_minute, self._tokens),
        ):
            if limit is not None:
                headers[f"x-ratelimit-limit-{kind}"] = str(limit)
                headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, limit - used))
                headers[f"x-ratelimit-reset-{kind}"] = reset
        return headers

    def _forget(self, before: float) -> None:
        while self._admitted and self._admitted[0][0] <= before:
            self._tokens -= self._admitted.popleft()[1]

    def _until_request(self, behaviour: Behaviour, now: float) -> float:
        limit = behaviour.requests_per_minute
        if limit is None or len(self._admitted) < limit:
            return 0.0
        return self._admitted[-limit][0] + behaviour.minute - now

    def _until_tokens(self, behaviour: Behaviour, tokens: int, now: float) -> float:
        limit = behaviour.tokens_per_minute
        if limit is None or self._tokens + tokens <= limit:
            return 0.0
        left = self._tokens
        for at, spent in self._admitted:
            left -= spent
            if left + tokens <= limit:
                return at + behaviour.minute - now
        # More than the limit in one call: it never fits.
        return behaviour.minute


def duration(seconds: float) -> str:
    """A duration as OpenAI's headers write it: ``0s``, ``250ms``, ``1.5s``, ``6m0s``."""
    milliseconds = math.ceil(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"
