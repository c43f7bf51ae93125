"""Batches: how full the requests are."""

from __future__ import annotations

from prometheus_client import Histogram

from embedq_worker.metrics.registry import REGISTRY

TEXTS = Histogram(
    "embedq_batch_texts",
    "Texts of one call.",
    ["model"],
    unit="texts",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048),
    registry=REGISTRY,
)
FILL = Histogram(
    "embedq_batch_fill_ratio",
    "How full a call is, 0 to 1: of the texts that a request may have, or of the tokens where that is more.",
    ["model"],
    unit="ratio",
    buckets=(0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
    registry=REGISTRY,
)
