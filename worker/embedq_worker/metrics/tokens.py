"""Tokens that answered calls used, and what they cost."""

from __future__ import annotations

from prometheus_client import Counter

from embedq_worker.metrics.registry import REGISTRY

TOKENS = Counter(
    "embedq_tokens_total",
    "Tokens of answered calls as the service counts them, estimated where it does not say.",
    ["model", "collection"],
    unit="tokens",
    registry=REGISTRY,
)
COST = Counter(
    "embedq_cost_dollars_total",
    "What these tokens cost by the catalogue's price, in US dollars; of models that have a price.",
    ["model", "collection"],
    unit="dollars",
    registry=REGISTRY,
)
