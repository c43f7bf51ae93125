"""Reads how long a service asks not to be called, in a reply's headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST_WAIT = 86_400.0
"""Seconds between a reply's ``date`` and its ``retry-after`` that are believed."""


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the wait that the service asks for, in seconds; None where it is not told, or zero or nonsense.

    A date counts from the reply's own ``date``, so that our clock may be wrong.
    """
    milliseconds = _number(_first_of(headers.get("retry-after-ms")))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    return _number(_first_of(value)) or _until(value, headers.get("date"))


def _first_of(value: str | None) -> str | None:
    """A header that a service and its proxy both send comes as ``7, 7``."""
    return value.partition(",")[0] if value else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _until(text: str | None, sent: str | None) -> float | None:
    then = _date(text)
    if then is None:
        return None
    by_service, by_us = _date(sent), datetime.now(UTC)
    wait = (then - (by_service or by_us)).total_seconds()
    if wait > _LONGEST_WAIT:  # a service that does not know what day it is
        wait = (then - by_us).total_seconds()
    return wait if wait > 0 else None


def _date(text: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(text or "")
        # The oldest of HTTP's forms names no zone, and means UTC.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
