"""Reads what a service says of its limits in a reply's headers.

``x-ratelimit-{limit,remaining,reset}-{requests,tokens}`` are OpenAI's; Groq and LiteLLM send them too, Azure
some of them, at times as -1 and 0 for "not known". Names without a kind mean requests:
``x-ratelimit-{limit,remaining,reset}`` (Together and most other services), and the same without ``x-`` (the
IETF's drafts). Names that only one service has are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from embedq_worker.allowance import Allowance

__all__ = ["Allowance", "read_allowance"]

_REQUESTS = ("x-ratelimit-{}-requests", "x-ratelimit-{}", "ratelimit-{}")
_TOKENS = ("x-ratelimit-{}-tokens",)
_LONGEST_RESET = 86_400.0
"""Seconds; more is no time left but a date (seconds since 1970), or nonsense."""

_LONGEST_TEXT = 40
"""Characters of a value."""

_COUNT = re.compile(r"([0-9]{1,15})(?:\.[0-9]{1,9})?")
_SECONDS = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_STEP = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|us|µs|ns|d|h|m|s)"
_DURATION = re.compile(f"(?:{_STEP})+")
_STEPS = re.compile(_STEP)
_UNITS = {
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
"""As Go writes durations, which is what OpenAI's look like."""


def read_allowance(headers: Mapping[str, str]) -> Allowance | None:
    """Give what ``headers`` (names in lower case) say of the limits, or None if nothing usable; never raises.

    Resets are seconds (``17``, ``0.5``) or durations (``6m0s``, ``250ms``).
    """
    # One pass, as looking up a name in httpx's headers scans them all.
    told = {name: value for name, value in headers.items() if "ratelimit-" in name}
    if not told:
        return None
    allowance = Allowance(*_read(told, _REQUESTS), *_read(told, _TOKENS))
    return None if allowance == Allowance() else allowance


def _read(told: Mapping[str, str], forms: tuple[str, ...]) -> tuple[int | None, int | None, float | None]:
    """Limit, remaining and reset, all under the names of one form: others may be a proxy's own limit."""
    for form in forms:
        limit, remaining, reset = (told.get(form.format(what)) for what in ("limit", "remaining", "reset"))
        if (limit, remaining, reset) != (None, None, None):
            return _checked(_count(limit), _count(remaining), _duration(reset))
    return None, None, None


def _checked(
    limit: int | None, remaining: int | None, reset: float | None
) -> tuple[int | None, int | None, float | None]:
    if remaining == 0 and reset is None:
        remaining = None  # Azure's "not known"; and nobody could say how long to wait
    return limit or None, remaining, reset


def _count(text: str | None) -> int | None:
    match = _COUNT.fullmatch(_first(text))
    return int(match[1]) if match else None


def _duration(text: str | None) -> float | None:
    first = _first(text)
    if _SECONDS.fullmatch(first):
        seconds = float(first)
    elif _DURATION.fullmatch(first):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _STEPS.findall(first))
    else:
        return None
    return seconds if 0 < seconds <= _LONGEST_RESET else None


def _first(text: str | None) -> str:
    """The value alone: the drafts append a policy (``100, 100;w=60``)."""
    first = re.split("[,;]", text or "", maxsplit=1)[0].strip()
    return first if len(first) <= _LONGEST_TEXT else ""
