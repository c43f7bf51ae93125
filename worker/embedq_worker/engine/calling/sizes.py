"""The sizes of a model's requests, in tokens: estimates on our side, real ones on the service's."""

from __future__ import annotations

from math import inf

from embedq_worker.catalogue import Model
from embedq_worker.limiter import Gate, Grant
from embedq_worker.tokens import Estimator

_PART_OF_A_MINUTE = 0.02
"""What one request may take of the tokens a minute: a larger one would hold up all others for too long."""


class Sizes:
    """How large requests may be by estimate, so that the real tokens stay below the limits of the moment."""

    def __init__(self, model: Model, gate: Gate, estimator: Estimator) -> None:
        self._model = model
        self._gate = gate
        self._estimator = estimator

    def most(self) -> float:
        """Tokens by estimate that one request may have."""
        most = float(self._model.max_request_tokens)
        if tokens := self._gate.tokens_per_minute:
            requests = self._gate.requests_per_minute
            most = min(most, max(tokens * _PART_OF_A_MINUTE, tokens / requests if requests else 0.0))
        return most / (1 + self._estimator.margin)

    def to_reserve(self, tokens: float) -> int:
        """The tokens to reserve for a request of so many by estimate."""
        return round(tokens * (1 + self._estimator.margin)) + 1

    def reserved(self, grant: Grant) -> float:
        """Tokens by estimate for which a grant will do; any number while tokens are not limited."""
        return grant.tokens / (1 + self._estimator.margin) if self._gate.tokens_per_minute else inf
