"""Rivals: items of one id that come to be written together. The newest of them is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from embedq_worker.engine.work import RunningItem
from embedq_worker.errors import RowRefused
from embedq_worker.store.rows import Row
from embedq_worker.tracing import Span

Rivals = list[RunningItem]
"""Items of one id, the newest first. An older one is written where the newer is refused."""


def rivals(items: Iterable[RunningItem]) -> list[Rivals]:
    """The items by their id, the newest first, of equals the one that came first."""
    groups: dict[str, Rivals] = {}
    for item in items:
        groups.setdefault(item.id, []).append(item)
    for group in groups.values():
        group.sort(key=lambda item: item.order, reverse=True)
    return list(groups.values())


def row_of(group: Rivals) -> Row:
    """What the writer stores: the newest; any of them may have come by the outbox."""
    item = group[0]
    return Row(
        id=item.id,
        version=item.version,
        content_hash=item.content_hash,
        parts=item.parts,
        metadata=msgspec.json.encode(item.metadata) if item.metadata else None,
        tokens=item.tokens,
        truncated=item.truncated,
        is_from_outbox=any(each.job.is_from_outbox for each in group),
    )


def suspected(groups: Sequence[Rivals], error: Exception) -> tuple[Sequence[Rivals], list[Sequence[Rivals]]]:
    """Those whose newest item is the cause of an error, and what to try again, batch by batch."""
    if len(groups) == 1:
        return groups, []
    named = error.ids if isinstance(error, RowRefused) else frozenset()
    refused = [group for group in groups if group[0].id in named]
    if refused:
        return refused, [[group for group in groups if group[0].id not in named]]
    half = len(groups) // 2
    return [], [groups[:half], groups[half:]]


def spans_of(groups: Sequence[Rivals]) -> Iterator[Span]:
    """Of the messages that wait for them."""
    return (span for item in chain.from_iterable(groups) for span in item.job.spans)
