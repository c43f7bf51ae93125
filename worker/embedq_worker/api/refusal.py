"""What an answer other than 2xx means: try again, stop calling, or the text is at fault.

Services word their refusals in many envelopes: ``{"error": {message, type, param, code}}`` (OpenAI, vLLM,
LiteLLM), ``{"error": {name, message, data}}`` (AI/ML API), ``{message, code, type}`` (TEI), ``{"error": …}``,
``{"detail": …}`` (Voyage, FastAPI), ``[{"error": {code, message, status, details}}]`` (Google),
``{"errors": […]}`` (Cloudflare). Prose is looked at where a status would mislead, and never kept, as it may
quote the text. Nor is a short name kept that could be a word of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from embedq_worker.api.retry_after import read_retry_after
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
        "api_key_invalid",
        "arrearage",
        "budget_exceeded",
        "err_insufficent_credits",
        "expired_key",
        "invalid_api_key",
        "invalid_model",
        "model_not_found",
    }
)  # fmt: skip  a word list
"""Codes, in lower case, that stay true whatever text is sent, also under 400 and 429. (``insufficent`` is
AI/ML API's, ``api_key_invalid`` Google's, ``arrearage`` Alibaba's; LiteLLM says ``budget_exceeded``.)"""
_ABOUT_US = re.compile(
    r"\bapi.?key\b|budget has been exceeded|insufficient (?:balance|credit|funds|quota)"
    r"|(?:invalid|unknown|unsupported|no such) model|not a valid model"
    r"|\bmodel\b.{0,80}?\b(?:not (?:found|supported|available)|does not (?:exist|support))",
    re.IGNORECASE,
)
"""Prose under a status that refuses the input: gateways have no other for a key, a budget or a model."""
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

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,63}")
_PARAMETER = re.compile(r"\$?[A-Za-z_.][A-Za-z0-9_.\[\]]{0,47}")
"""A longer one may be the digest of a key: LiteLLM has been seen to put that here."""
_PLACE = re.compile(r"\d{1,4}")
"""Of a text in the request; a longer number may be a text."""
_CODE_NAMES = ("code", "type", "error_type", "kind", "name", "reason")
_ABSENT = frozenset({"None", "null"})
"""What LiteLLM writes for no code and no parameter."""
_decoder = msgspec.json.Decoder()


def classify(status: int, body: bytes, headers: Mapping[str, str], texts: Collection[str] = ()) -> ApiError:
    """Give the error to raise for an answer other than 2xx.

    ``headers`` finds lower-case names; ``body`` may be cut or anything at all. ``texts`` are those that were
    sent: a code or parameter that one of them could have given is left out, unless it is a known one.
    """
    envelope = _parse(body)
    objects = list(_objects(envelope))
    code = _first(objects, _CODE_NAMES, partial(_is_code, texts))
    parameter = _parameter(objects, partial(_is_parameter, texts))
    kind = _kind(status, code, parameter, envelope)
    is_too_long = kind is BadInput and _is_too_long(status, code, envelope)
    if kind is BadInput and not is_too_long and (_is_page(body) or _is_about_us(envelope, texts)):
        kind = Refused
    error = kind(status, code, parameter, read_retry_after(headers))
    error.is_too_long = is_too_long
    return error


def _is_page(body: bytes) -> bool:
    """Whether it is a page for people, of a proxy or of another server than was meant."""
    return body.lstrip()[:1] == b"<"


def _is_about_us(envelope: object, texts: Collection[str]) -> bool:
    """Whether the prose is, and no text has the same words: it might be quoted."""
    said = (_ABOUT_US.search(prose[:_PROSE_LENGTH]) for prose in _prose(envelope))
    return any(match and not any(match[0].casefold() in text.casefold() for text in texts) for match in said)


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
    if (code or "").lower() in _ACCOUNT_CODES and status < 500:
        return Refused
    if status in _INPUT_STATUSES:
        return Refused if parameter in _SETTINGS else BadInput
    if status >= 500 and any(_TOO_LONG.search(prose[:_PROSE_LENGTH]) for prose in _prose(envelope)):
        return BadInput
    if status in _TRANSIENT_STATUSES or status >= 500:
        return Transient
    return Refused


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
    for details in (inner.get("data"), inner.get("details"), envelope.get("detail"), envelope.get("errors")):
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
            if isinstance(value, str) and value not in _ABSENT and accepts(value):
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
