"""What an answer other than 2xx means: try again, stop calling, or the text is at fault.

Services word their refusals in many envelopes: ``{"error": {message, type, param, code}}`` (OpenAI, vLLM,
LiteLLM), ``{"error": {name, message, data}}`` (AI/ML API), ``{message, code, type}`` (TEI), ``{"error": …}``,
``{"detail": …}`` (Voyage, FastAPI). Prose is looked at where a status would mislead, and never kept, as it
may quote the text. Nor is a short name kept that could be a word of the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import msgspec

from embedq_worker.errors import ApiError, BadInput, Refused, Transient

_INPUT_STATUSES = frozenset({400, 413, 422})
_TRANSIENT_STATUSES = frozenset({408, 409, 424, 425, 429})
"""Besides 5xx. 409 is what openai-python retries too; TEI says 424 when its model fails."""

_ACCOUNT_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "err_insufficent_credits",
        "invalid_api_key",
        "model_not_found",
    }
)  # fmt: skip  a word list
"""Codes that stay true whatever text is sent, also under 400 and 429. (``insufficent`` is AI/ML API's.)"""
_SETTINGS = frozenset(
    {
        "model",
        "dimensions",
        "encoding_format",
        "input_type",
        "task_type",
        "auto_truncate",
        "user",
    }
)  # fmt: skip  a word list
"""Request fields that the texts have no part in: a 400 about one must not turn texts into dead letters."""

_FIELDS = _SETTINGS | {"input", "inputs"}
_CODES = _ACCOUNT_CODES | {
    "bad_request",
    "badrequesterror",
    "content_filter",
    "context_length_exceeded",
    "invalid_request_error",
    "invalid_type",
    "invalid_value",
    "max_tokens_per_request",
    "missing",
    "rate_limit_exceeded",
    "requests",
    "server_error",
    "string_too_long",
    "string_too_short",
    "string_type",
    "tokenizer",
    "tokens",
    "too_big",
    "too_small",
    "validation",
}
"""Codes, in lower case, that are what they say even where a text has the same word."""
_ECHOED = 4
"""Characters of a text from which on a name that holds it is taken for its echo."""

_TOO_LONG = re.compile(r"too large to process|maximum context|context length", re.IGNORECASE)
"""llama.cpp and some gateways say so under a 5xx; it would be retried for ever."""
_MAY_BE_TOO_LONG = re.compile(
    r"too (?:large|long|many tokens)|longer than|must have less than|at most \d+ char|input length"
    r"|token limit|context (?:length|window)|maximum (?:context|input|sequence|token)"
    r"|exceed\w* [^.]{0,60}(?:limit|maximum|length|tokens)",
    re.IGNORECASE,
)
"""Under a status that refuses the input. Where this is wrong, a text is at worst asked for again in parts."""
_TOO_LONG_CODES = frozenset(
    {
        "context_length_exceeded",
        "contextwindowexceedederror",
        "string_above_max_length",
        "too_big",
        "too_long",
        "string_too_long",
    }
)  # fmt: skip  a word list
_PROSE_LENGTH = 300
"""Characters of prose that are searched; further on it may quote the text."""

_LONGEST_WAIT = 86_400.0
"""Seconds between a reply's ``date`` and its ``retry-after`` that are believed."""

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,63}")
_PARAMETER = re.compile(r"\$?[A-Za-z_.][A-Za-z0-9_.\[\]]{0,63}")
_PLACE = re.compile(r"\d{1,4}")
"""Of a text in the request; a longer number may be a text."""
_decoder = msgspec.json.Decoder()


def classify(status: int, body: bytes, headers: Mapping[str, str], texts: Collection[str] = ()) -> ApiError:
    """Give the error to raise for an answer other than 2xx.

    ``headers`` finds lower-case names; ``body`` may be cut or anything at all. ``texts`` are those that were
    sent: a code or parameter that one of them could have given is left out, unless it is a known one.
    """
    envelope = _parse(body)
    objects = list(_objects(envelope))
    code = _first(objects, ("code", "type", "error_type", "kind", "name"), partial(_is_code, texts))
    parameter = _parameter(objects, partial(_is_parameter, texts))
    kind = _kind(status, code, parameter, envelope)
    error = kind(status, code, parameter, read_retry_after(headers))
    error.is_too_long = kind is BadInput and _is_too_long(status, code, envelope)
    return error


def _is_too_long(status: int, code: str | None, envelope: object) -> bool:
    if status == 413 or (code or "").lower() in _TOO_LONG_CODES:
        return True
    return any(_MAY_BE_TOO_LONG.search(prose[:_PROSE_LENGTH]) for prose in _prose(envelope))


def _is_code(texts: Collection[str], name: str) -> bool:
    return bool(_CODE.fullmatch(name)) and (name.lower() in _CODES or not _is_echo(texts, name))


def _is_parameter(texts: Collection[str], name: str) -> bool:
    """A path like ``input.3``, of which each step counts."""
    steps = re.findall(r"\w+", name)
    return bool(_PARAMETER.fullmatch(name)) and all(
        step in _FIELDS or _PLACE.fullmatch(step) or not _is_echo(texts, step) for step in steps
    )


def _is_echo(texts: Collection[str], name: str) -> bool:
    said = name.casefold()
    folded = (text.casefold().strip() for text in texts)
    return any(said in text or (len(text) >= _ECHOED and text in said) for text in folded)


def _kind(status: int, code: str | None, parameter: str | None, envelope: object) -> type[ApiError]:
    if code in _ACCOUNT_CODES and status < 500:
        return Refused
    if status in _INPUT_STATUSES:
        return Refused if parameter in _SETTINGS else BadInput
    if status >= 500 and any(_TOO_LONG.search(prose[:_PROSE_LENGTH]) for prose in _prose(envelope)):
        return BadInput
    if status in _TRANSIENT_STATUSES or status >= 500:
        return Transient
    return Refused


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


def _parse(body: bytes) -> object:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _objects(envelope: object) -> Iterator[dict[str, Any]]:
    """Every object that may hold a code, the most specific first."""
    if isinstance(envelope, list):  # some servers wrap the envelope in an array
        envelope = envelope[0] if envelope else None
    if not isinstance(envelope, dict):
        return
    error = envelope.get("error")
    inner = error if isinstance(error, dict) else {}
    for details in (inner.get("data"), envelope.get("detail")):
        if isinstance(details, list):
            details = details[0] if details else None
        if isinstance(details, dict):
            yield details
    yield inner
    yield envelope


def _first(
    objects: list[dict[str, Any]], names: tuple[str, ...], accepts: Callable[[str], bool]
) -> str | None:
    for candidate in objects:
        for name in names:
            value = candidate.get(name)
            if isinstance(value, str) and accepts(value):
                return value
    return None


def _parameter(objects: list[dict[str, Any]], accepts: Callable[[str], bool]) -> str | None:
    """``param``, zod's ``path`` or FastAPI's ``loc``, the last two as lists of names and numbers."""
    for candidate in objects:
        for name in ("path", "loc"):
            steps = candidate.get(name)
            if isinstance(steps, list):
                joined = ".".join(str(step) for step in steps if step != "body")
                if accepts(joined):
                    return joined
    return _first(objects, ("param",), accepts)


def _prose(envelope: object) -> Iterator[str]:
    """Every message for people in an envelope."""
    for candidate in _objects(envelope):
        for name in ("message", "error", "detail", "msg"):
            value = candidate.get(name)
            if isinstance(value, str):
                yield value
