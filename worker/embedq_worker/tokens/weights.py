"""Tokens per unit of each feature, learned from what the service counted: a Kalman filter.

It knows how sure it is of each weight, so that requests of Chinese teach nothing of digits, and the first
request teaches much, the thousandth little.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedq_worker.tokens.features import Features

_FIRST = np.array([1.0, 2.0, 1.5])
"""The first weights, as multiples of the model's tokens per byte: on the high side for each."""
_DOUBT = 0.5
"""Of the first weights: their relative standard deviation."""
_LEAST, _MOST = 0.125, 4.0
"""How far a weight can move, in multiples of the first: content that flips to and fro would starve one."""
_TEXT_SPREAD, _REQUEST_SPREAD = 0.25, 0.02
"""Relative standard deviation of one text's tokens (measured: 0.02 to 0.25), and what many texts keep."""
_FORGETTING = 3e-4
"""Part of the first doubt that comes back with each request: the last ten or so full ones count."""
_FORGETTING_SURPRISED = 0.1
"""The same once two requests in a row were far off on the same side: the content is another."""
_SURPRISE = 3.0
"""Standard deviations from which a request is far off."""


class Weights:
    """Tokens per character, digit and further byte."""

    def __init__(self, tokens_per_byte: float) -> None:
        self._first = _FIRST * tokens_per_byte
        self._first_doubt: NDArray[np.float64] = np.diag((self._first * _DOUBT) ** 2)
        self._doubt = self._first_doubt.copy()
        self._side = 0.0
        self._set(self._first)

    def _set(self, values: NDArray[np.float64]) -> None:
        self._values = np.clip(values, _LEAST * self._first, _MOST * self._first)
        # Plain floats: a text's sum costs a tenth of what numpy takes.
        self.character, self.digit, self.further = (float(value) for value in self._values)

    def tokens(self, counts: Features) -> float:
        """What these features are worth."""
        return counts[0] * self.character + counts[1] * self.digit + counts[2] * self.further

    def learn(self, counts: Features, texts: int, error: float) -> None:
        """Take in a request: its features, how many texts, and actual by estimated tokens, less 1."""
        shares = np.array(counts, dtype=np.float64) / self.tokens(counts)
        noise = _REQUEST_SPREAD**2 + _TEXT_SPREAD**2 / texts
        self._forget(_FORGETTING)
        variance = float(shares @ self._doubt @ shares) + noise
        side = float(np.sign(error)) if abs(error) > _SURPRISE * variance**0.5 else 0.0
        if side and side == self._side:
            self._forget(_FORGETTING_SURPRISED)
            variance = float(shares @ self._doubt @ shares) + noise
        elif side:
            # One wild count alone moves little.
            error = side * _SURPRISE * variance**0.5
        self._side = side
        gain = self._doubt @ shares / variance
        self._doubt = self._doubt - np.outer(gain, shares @ self._doubt)
        self._set(self._values + gain * error)

    def _forget(self, part: float) -> None:
        self._doubt = self._doubt + part * (self._first_doubt - self._doubt)
