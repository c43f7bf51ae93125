"""Concurrency limits that hold for the whole fleet: leases in Redis, one script a transition."""

from __future__ import annotations

from embedq_worker.limiter.limiter import Limiter, Slot

__all__ = ["Limiter", "Slot"]
