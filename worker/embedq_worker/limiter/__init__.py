"""Limits that hold for the whole fleet: concurrency, requests and tokens a minute, fair turns, pauses.

What is known of a model is in Redis; ``lua/`` changes it, one script at a time.
"""

from __future__ import annotations

from embedq_worker.limiter.exchange import Flow, Grant, Limits, Outcome, Want
from embedq_worker.limiter.gate import Gate
from embedq_worker.limiter.limiter import Limiter

__all__ = ["Flow", "Gate", "Grant", "Limiter", "Limits", "Outcome", "Want"]
