"""The body of a request to ``/embeddings``, shaped by the model's family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from embedq_worker.catalogue import Family, Model

Purpose = Literal["document", "query"]
"""Whether texts are to be stored, or searched with."""

NAMES_FLOAT: frozenset[Family] = frozenset({"openai", "plain"})
"""Families that document ``encoding_format``. Other schemas lack it, and Voyage itself knows no "float"."""
LONE_STRING: frozenset[Family] = frozenset({"voyage"})
"""Families that take ten times longer texts as a string than in an array."""

_encoder = msgspec.json.Encoder()


def build_request(model: Model, texts: Sequence[str], dimensions: int, purpose: Purpose) -> bytes:
    """Give the JSON for one call; ``texts`` are at least one and within the model's limits.

    Texts are sent as strings, never as tokens, and ``user`` never: the gateway refuses the first and may
    refuse the second. Raises ``BadDimensions``.
    """
    model.check_dimensions(dimensions)
    document = purpose == "document"
    body: dict[str, Any] = {"model": model.id, "input": _input(model, texts, document)}
    if model.takes_dimensions:
        body["dimensions"] = dimensions
    if model.base64:
        body["encoding_format"] = "base64"
    elif model.family in NAMES_FLOAT:
        body["encoding_format"] = "float"
    body.update(model.document_parameters if document else model.query_parameters)
    return _encoder.encode(body)


def _input(model: Model, texts: Sequence[str], document: bool) -> str | list[str]:
    prefix = model.document_prefix if document else model.query_prefix
    prefixed = [prefix + text for text in texts] if prefix else list(texts)
    if len(prefixed) == 1 and model.family in LONE_STRING:
        return prefixed[0]
    return prefixed
