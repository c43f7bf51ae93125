"""The meter of one model's calls, for the metrics. Read once a call, never once a text."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from embedq_worker.catalogue import Model
from embedq_worker.engine.texts import Batch
from embedq_worker.limiter import CallOutcome
from embedq_worker.limiter.exchange import Verdict
from embedq_worker.metrics.batches import FILL, TEXTS
from embedq_worker.metrics.calls import CALL_TIME, CALLS, IN_FLIGHT, RETRIES, WAIT
from embedq_worker.metrics.tokens import COST, TOKENS

_OUTCOMES: Mapping[Verdict, str] = {
    "answered": "answered",
    "throttled": "throttled",
    "overloaded": "failed",
    "failed": "failed",
    "refused": "refused",
    "neutral": "bad_input",
    "dropped": "dropped",
}
"""What a call that was made is counted as."""


class CallMeter:
    """Its series are there from the start, so that the first call is an increase."""

    def __init__(self, model: Model) -> None:
        self._model = model
        price = model.usd_per_million_tokens
        self._price = None if price is None else price / 1e6
        self._outcomes = {verdict: CALLS.labels(model.id, name) for verdict, name in _OUTCOMES.items()}
        self._time = CALL_TIME.labels(model.id)
        self._in_flight = IN_FLIGHT.labels(model.id)
        self._retries = RETRIES.labels(model.id)
        self._texts = TEXTS.labels(model.id)
        self._fill = FILL.labels(model.id)

    def begin(self, batch: Batch, most_tokens: float) -> float:
        """A call is made; ``most_tokens`` by estimate may be in one. Returns when, by the monotonic clock."""
        now = monotonic()
        self._in_flight.inc()
        self._texts.observe(len(batch.texts))
        self._fill.observe(min(1.0, max(len(batch.texts) / self._model.inputs, batch.tokens / most_tokens)))
        if batch.texts[0].attempts:
            self._retries.inc()
        else:
            oldest = min(text.arrived for text in batch.texts)
            WAIT.labels(self._model.id, batch.flow.lane).observe(now - oldest)
        return now

    def end(self, outcome: CallOutcome, began: float) -> None:
        """The call that began then has ended."""
        self._in_flight.dec()
        self._outcomes[outcome.verdict].inc()
        self._time.observe(monotonic() - began)
        for collection, tokens in (outcome.shares or {}).items():
            TOKENS.labels(self._model.id, collection).inc(tokens)
            if self._price is not None:
                COST.labels(self._model.id, collection).inc(tokens * self._price)
