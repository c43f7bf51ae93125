"""What the API's records of calls say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from embedq.testing.control import CallRecord


def between(calls: Iterable[CallRecord], since: float, until: float) -> list[CallRecord]:
    """The calls that arrived then."""
    return [call for call in calls if since <= call.at < until]


def answered_texts(calls: Iterable[CallRecord], since: float, until: float) -> int:
    """Texts whose call was answered then."""
    return sum(call.texts for call in calls if call.status == 200 and since <= (call.ended or until) < until)


def call_seconds(calls: Iterable[CallRecord], since: float, until: float) -> float:
    """The integral of the calls in flight."""
    return sum(
        max(0.0, min(until, call.ended if call.ended is not None else until) - max(since, call.at))
        for call in calls
    )


def throttled_share(calls: Sequence[CallRecord]) -> float:
    """The part of the calls that got 429."""
    return sum(call.status == 429 for call in calls) / max(1, len(calls))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
