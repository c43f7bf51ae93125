"""The labels by which metrics tell queues apart."""

from __future__ import annotations

from embedq.contract import is_collection_name, queue_parts


def labels_of(queue: str) -> tuple[str, str]:
    """Collection and lane; the collection is empty for the queue that is nobody's."""
    collection, lane = queue_parts(queue)
    return collection if is_collection_name(collection) else "", lane
