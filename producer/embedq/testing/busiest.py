"""The busiest minute of calls, as a service that limits calls and tokens a minute sees it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from embedq.testing.control import CallRecord


class Busiest(NamedTuple):
    """The most in any window, calls and tokens each in its own."""

    calls: int
    tokens: int


def busiest(records: Iterable[CallRecord], minute: float) -> Busiest:
    """The most admitted calls, and the most tokens of them, in any window of ``minute`` seconds.

    A window holds its beginning and not its end: calls that are exactly ``minute`` apart share none.
    """
    window: deque[CallRecord] = deque()
    tokens = most_calls = most_tokens = 0
    for record in sorted((record for record in records if record.admitted), key=_at):
        while window and window[0].at <= record.at - minute:
            tokens -= window.popleft().tokens
        window.append(record)
        tokens += record.tokens
        most_calls = max(most_calls, len(window))
        most_tokens = max(most_tokens, tokens)
    return Busiest(most_calls, most_tokens)


def _at(record: CallRecord) -> float:
    return record.at
