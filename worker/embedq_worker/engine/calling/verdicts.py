"""What the end of a call means for the limits of its model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from embedq_worker.api.response import Answer
from embedq_worker.engine.texts import WaitingText, tokens_of
from embedq_worker.errors import ApiError, BadInput, Refused
from embedq_worker.limiter import CallOutcome
from embedq_worker.limiter.exchange import Verdict


def outcome_of_answer(texts: Sequence[WaitingText], answer: Answer) -> CallOutcome:
    """The outcome of a call that gave the vectors of ``texts``; each collection's share by its texts."""
    tokens = answer.tokens or None  # no request has none: a service that says 0 does not count
    spent: defaultdict[str, int] = defaultdict(int)
    for text, part in zip(texts, tokens_of(texts, tokens), strict=True):
        spent[text.flow.collection] += part
    return CallOutcome("answered", tokens=tokens, shares=spent, allowance=answer.allowance)


def outcome_of(error: ApiError) -> CallOutcome:
    """The outcome of a call that gave no vectors."""
    return CallOutcome(
        _verdict(error),
        why=_why(error),
        cool=error.retry_after * 1000 if error.retry_after is not None else None,
        allowance=error.allowance,
    )


def is_overload(error: ApiError) -> bool:
    """Whether the service has too much to do: whose call it was matters little then."""
    return _verdict(error) in ("throttled", "overloaded")


def _verdict(error: ApiError) -> Verdict:
    if isinstance(error, BadInput):
        return "neutral"
    if isinstance(error, Refused):
        return "refused"
    if error.status == 429:
        return "throttled"
    return "overloaded" if error.status == 503 or error.code == "timeout" else "failed"


def _why(error: ApiError) -> str:
    """A pause is for people, with what to do; the rest is a few words."""
    verdict = _verdict(error)
    if verdict == "throttled":
        return "the service answered 429"
    if verdict != "overloaded":
        return str(error)
    if error.status == 503:
        return "the service answered 503; if it lasts, look at its status"
    return "the service did not answer in time; if it lasts, check that it is up and reachable"
