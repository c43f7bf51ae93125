"""Tokens of texts, before the service has counted them."""

from __future__ import annotations

from embedq_worker.tokens.counter import Counter
from embedq_worker.tokens.estimator import Estimator

__all__ = ["Counter", "Estimator"]
