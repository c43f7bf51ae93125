"""The message of a fill: ids of rows that lack the vector of the model that their collection moves to.

It is no part of the contract with producers: `embedq collection migrate` sends it, and workers of the same
version take it. It never carries a text: the worker reads the rows.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from embedq.contract import COLLECTION_NAME, MAX_ITEMS, queue_name
from embedq.messages import Message, task_message

FILL_TASK = "embedq.fill"


class Fill(msgspec.Struct, frozen=True):
    """Rows of one collection that want a vector of one generation."""

    v: Literal[1]
    collection: Annotated[str, Meta(pattern=f"^{COLLECTION_NAME}$")]
    generation: int
    items: Annotated[list[str], Meta(min_length=1, max_length=MAX_ITEMS)]
    """Ids. Named as a job's items are, so that what counts these counts those."""


def fill_message(fill: Fill, enqueued_at: float) -> Message:
    """The message, for lane ``bulk``; ``enqueued_at`` in seconds since the epoch."""
    queue = queue_name(fill.collection, "bulk")
    body = msgspec.json.encode(fill)
    return task_message(FILL_TASK, fill.collection, queue, body, len(fill.items), enqueued_at)
