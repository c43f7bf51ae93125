"""Dead letters as they are written."""

from __future__ import annotations

from prometheus_client import Counter

from embedq_worker.metrics.registry import REGISTRY

DEAD_LETTERS = Counter(
    "embedq_dead_letters_total",
    "Dead letters written, by cause: text, row, successor, not_a_job, killer; the collection is empty where "
    "none of that name is served.",
    ["collection", "cause"],
    registry=REGISTRY,
)
