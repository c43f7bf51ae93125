"""Forgetting a collection: its series end with it, and a new one of its name begins anew."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from embedq_worker.metrics import dead_letters, items, outbox, tokens, writes

_OF_COLLECTIONS: tuple[Counter | Histogram, ...] = (
    items.ITEMS,
    items.MESSAGES,
    items.LAG,
    items.QUERIES,
    tokens.TOKENS,
    tokens.COST,
    writes.ROWS,
    dead_letters.DEAD_LETTERS,
    outbox.RELAYED,
)


def forget(collection: str) -> None:
    """Drop every series of a collection."""
    for collector in _OF_COLLECTIONS:
        collector.remove_by_labels({"collection": collection})
