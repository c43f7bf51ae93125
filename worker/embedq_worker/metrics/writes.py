"""Transactions that write vectors."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from embedq_worker.metrics.registry import REGISTRY

WRITE_TIME = Histogram(
    "embedq_write_seconds",
    "How long a transaction that writes items took, attempts that failed included.",
    unit="seconds",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
ROWS = Counter(
    "embedq_rows_written_total",
    "Rows with a vector that were committed; a text in chunks has several.",
    ["collection"],
    registry=REGISTRY,
)
