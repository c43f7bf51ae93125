"""Limits that hold for the whole fleet: concurrency, requests and tokens a minute, fair turns, pauses.

What is known of a model is in Redis; ``lua/`` changes it, one script at a time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from embedq_worker.limiter.exchange import CallOutcome, Flow, Grant, Limits, Want

if TYPE_CHECKING:
    from embedq_worker.limiter.gate import Gate
    from embedq_worker.limiter.limiter import Limiter

__all__ = ["CallOutcome", "Flow", "Gate", "Grant", "Limiter", "Limits", "Want"]

_LATE = {"Gate": "gate", "Limiter": "limiter"}
"""What only workers need is imported when it is asked for: commands start sooner without."""


def __getattr__(name: str) -> object:
    """``Gate`` and ``Limiter``, from their modules."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = found
    return found
