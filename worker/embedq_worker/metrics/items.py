"""Jobs and their items: what became of them, and how long after they were enqueued."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from embedq_worker.metrics.registry import REGISTRY
from embedq_worker.metrics.sampled import Sampled

ITEMS = Counter(
    "embedq_items_total",
    "Items that are done or given back, by outcome: stored, unchanged, deleted, superseded, dead, withdrawn.",
    ["collection", "lane", "outcome"],
    unit="items",
    registry=REGISTRY,
)
MESSAGES = Counter(
    "embedq_messages_total",
    "Messages that are done: all that they said is committed.",
    ["collection", "lane"],
    unit="messages",
    registry=REGISTRY,
)
LAG = Histogram(
    "embedq_lag_seconds",
    "From when a message was enqueued, by its header, to when all of it was committed.",
    ["collection", "lane"],
    unit="seconds",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 43_200),
    registry=REGISTRY,
)
QUERIES = Counter(
    "embedq_queries_total",
    "Queries that are done, by outcome: answered, refused.",
    ["collection", "outcome"],
    unit="queries",
    registry=REGISTRY,
)
IN_HAND = Sampled(
    "embedq_in_hand_messages",
    "Messages that this process has fetched and not finished.",
    ["collection", "lane"],
    unit="messages",
)
