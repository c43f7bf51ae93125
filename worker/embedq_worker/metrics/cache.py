"""The cache of vectors: which texts cost no call."""

from __future__ import annotations

from prometheus_client import Counter

from embedq_worker.metrics.registry import REGISTRY

RESULTS = ("hit", "miss", "joined")
TEXTS = Counter(
    "embedq_cache_texts_total",
    "Texts by where their vector comes from: hit (it was in the cache), miss (the model is called), joined "
    "(of the call for an equal text, in this process or another).",
    ["model", "result"],
    unit="texts",
    registry=REGISTRY,
)
