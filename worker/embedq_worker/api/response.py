"""The answer to a call: checked vectors, in the order of the texts."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from embedq_worker.allowance import Allowance
from embedq_worker.errors import MalformedAnswer, MalformedCode

Vectors = npt.NDArray[np.float32]
_MOST_TOKENS = 2**31 - 1
"""What an integer column takes: no request bills as many, whatever the service says."""


_MOST_DIAGNOSED = 256 << 10
"""Bytes of an unreadable answer that is looked into: the event loop waits for it, 10 ms."""


class Answer(NamedTuple):
    """``vectors``: shape (texts, dimensions), native float32, C order; ``tokens``: billed, or None.

    ``allowance`` is what the reply's headers say of the limits, or None.
    """

    vectors: Vectors
    tokens: int | None
    allowance: Allowance | None = None


class _Item(msgspec.Struct):
    """One vector as sent. ``index`` may be written as a float; base64 is decoded by msgspec, in C."""

    embedding: bytes | list[float]
    index: int | float | None = None


class _Body(msgspec.Struct):
    """The parts that are read; ``model`` is not, as it may differ from the one asked for."""

    data: list[_Item]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Body)


def read_answer(body: bytes, count: int, dimensions: int, allowance: Allowance | None = None) -> Answer:
    """Read the 2xx answer to ``count`` texts; raise ``MalformedAnswer`` for what must not become rows.

    Vectors are matched to texts by ``index``. Each may be a list of numbers or a base64 string of
    little-endian float32, whatever was asked for. ``allowance`` is handed on.
    """
    parsed = _parse(body)
    if len(parsed.data) != count:
        raise MalformedAnswer("wrong_count")
    vectors = np.empty((count, dimensions), dtype=np.float32)
    with np.errstate(over="ignore"):  # a number beyond float32 becomes an infinity, which is refused below
        _fill(vectors, parsed.data)
    _check_lengths(vectors)
    return Answer(vectors, _tokens(parsed.usage), allowance)


def _parse(body: bytes) -> _Body:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        # The cause is left out: it may quote the answer.
        raise MalformedAnswer(_diagnose(body)) from None


def _fill(vectors: Vectors, items: list[_Item]) -> None:
    count, dimensions = vectors.shape
    missing = set(range(count))
    for item in items:
        if item.index not in missing:
            raise MalformedAnswer("wrong_index")
        index = int(item.index)
        missing.remove(index)
        values = item.embedding
        size = len(values) / 4 if isinstance(values, bytes) else len(values)
        if size != dimensions:
            raise MalformedAnswer("wrong_dimensions")
        vectors[index] = np.frombuffer(values, "<f4") if isinstance(values, bytes) else values


def _check_lengths(vectors: Vectors) -> None:
    """One pass over squared lengths in float32, as cosine distance in the database sums them."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    if not np.isfinite(squares).all():
        raise MalformedAnswer("not_finite")
    if not squares.all():
        raise MalformedAnswer("zero_vector")


def _tokens(usage: object) -> int | None:
    """The tokens billed; zero, negative and other oddities count as not told."""
    if not isinstance(usage, dict):
        return None
    for name in ("total_tokens", "prompt_tokens"):
        value = usage.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
            value = int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 1:
            return min(int(value), _MOST_TOKENS)
    return None


def _diagnose(body: bytes) -> MalformedCode:
    """Tell why an answer could not be read; slow, and only for answers that are refused anyway."""
    if len(body) > _MOST_DIAGNOSED:
        return "wrong_shape"
    constants: list[str] = []

    def note(constant: str) -> float:
        constants.append(constant)
        return 0.0

    def number(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else note(text)

    try:
        envelope = json.loads(body, parse_constant=note, parse_float=number)
    except (ValueError, RecursionError):
        return "not_json"
    return "not_finite" if constants or _has_null_component(envelope) else "wrong_shape"


def _has_null_component(envelope: Any) -> bool:
    """JSON has no NaN; some servers write null for it."""
    data = envelope.get("data") if isinstance(envelope, dict) else None
    vectors = (
        [item.get("embedding") for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    )
    return any(isinstance(vector, list) and None in vector for vector in vectors)
