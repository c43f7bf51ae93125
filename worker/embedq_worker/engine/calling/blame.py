"""Blame: whether the calls of a batch fail for its texts, or because the service fails.

Told from the calls of others since the batch failed last: where most of them were answered, the service is
well, and it is a strike. Without blame a text that the service breaks down on would be tried, and billed, for
ever, and its message never be done.
"""

from __future__ import annotations

from embedq_worker.engine.texts import Batch

_MOST = 3
"""Answers for each failure of others, which make a service that is well. Less, and texts are blamed for a bad
hour of the service."""


class Blame:
    """Of one model, by the calls of this process. What was tried before counts no more.

    Nor do halves that fail, for they fail as what they were a part of; their answers do.
    """

    def __init__(self) -> None:
        self._answers = 0
        self._failures = 0

    def answered(self, batch: Batch) -> None:
        """A call of this batch was answered."""
        self._answers += batch.is_half or not batch.failures

    def overloaded(self, batch: Batch) -> None:
        """A call of this batch failed as any other's might have: that tells nothing of its texts."""
        batch.failures += 1
        self._look_from_now(batch)

    def failed(self, batch: Batch) -> bool:
        """A call of this batch failed; whether that is a strike. They count in a row."""
        answers = self._answers - batch.answers_before
        failures = self._failures - batch.failures_before
        is_strike = batch.failures > 0 and answers > _MOST * failures
        if is_strike:
            batch.strikes += 1
        elif failures:
            batch.strikes = 0
        self._failures += not (batch.failures or batch.is_half)
        batch.failures += 1
        self._look_from_now(batch)
        return is_strike

    def halves(self, batch: Batch) -> tuple[Batch, Batch]:
        """Of a batch that failed: an answer to the one tells of the other."""
        halves = batch.halves()
        for half in halves:
            half.failures = min(batch.failures, 1)
            self._look_from_now(half)
        return halves

    def _look_from_now(self, batch: Batch) -> None:
        batch.answers_before, batch.failures_before = self._answers, self._failures
