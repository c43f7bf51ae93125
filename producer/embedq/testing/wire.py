"""The embeddings endpoint's bodies: requests as AI/ML API takes them, answers and errors as it gives them."""

from __future__ import annotations

import time
from binascii import b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from http.client import responses as REASONS  # noqa: N812 -- a table of constants
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from embedq.errors import EmbedqError
from embedq.testing.control import MAX_DIMENSIONS, Behaviour
from embedq.testing.vectors import Vectors, measure

EMBEDDINGS_PATH = "/v1/embeddings"
Envelope = Literal["problem", "flat"]
"""The two bodies of errors: ``application/problem+json`` of 2026, and the flat one of 2025."""

_Text = Annotated[str, Meta(min_length=1)]
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class RefusedError(EmbedqError):
    """The request gets an error for an answer."""

    def __init__(self, status: int, message: str, *, data: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.data = data


class _Body(msgspec.Struct):
    model: _Text
    input: _Text | Annotated[list[_Text], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None


@dataclass(slots=True)
class Asked:
    """A request that could be read."""

    model: str
    texts: list[str]
    is_array: bool
    dimensions: int | None
    base64: bool
    fields: dict[str, Any]
    digests: list[bytes]
    tokens: int


def parse(body: bytes) -> Asked:
    """Read a request's body; ``RefusedError`` names the field that is wrong, never its value."""
    try:
        fields = _decode(body)
        asked = msgspec.convert(fields, _Body)
    except msgspec.ValidationError as error:
        raise RefusedError(400, "Invalid payload provided", data=[{"message": str(error)}]) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RefusedError(400, "Body validation error!") from None
    is_array = isinstance(asked.input, list)
    texts = asked.input if isinstance(asked.input, list) else [asked.input]
    measured = [measure(text) for text in texts]
    return Asked(
        model=asked.model,
        texts=texts,
        is_array=is_array,
        dimensions=asked.dimensions,
        base64=asked.encoding_format == "base64",
        fields=fields | {"input": "array" if is_array else "string"},
        digests=[digest for digest, _ in measured],
        tokens=sum(tokens for _, tokens in measured),
    )


def check(asked: Asked, behaviour: Behaviour, authorization: str | None) -> None:
    """Hold a request against the settings; raises ``RefusedError``."""
    if behaviour.api_key is not None and authorization != f"Bearer {behaviour.api_key}":
        raise RefusedError(401, "Missing or invalid API key")
    if len(asked.texts) > behaviour.max_inputs:
        raise RefusedError(400, "Invalid payload provided", data=[{"code": "too_big", "path": ["input"]}])
    longest = behaviour.max_characters_in_array if asked.is_array else behaviour.max_characters
    if longest is not None and any(len(text) > longest for text in asked.texts):
        raise RefusedError(400, "Invalid payload provided", data=[{"code": "too_big", "path": ["input"]}])


@dataclass(slots=True)
class Answer:
    """A 2xx answer before it is rendered; faults alter it."""

    model: str
    vectors: Vectors
    indexes: list[int]
    tokens: int
    base64: bool
    usage: Literal["present", "null", "missing"] = "present"

    def body(self) -> bytes:
        """The JSON of the answer."""
        # One join by hand: a JSON encoder would scan and copy megabytes of vectors again and again.
        parts = [b'{"object":"list","data":[']
        for index, vector in zip(self.indexes, self._vectors(), strict=True):
            parts += (b'{"object":"embedding","index":%d,"embedding":' % index, *vector, b"},")
        if self.indexes:
            parts[-1] = b"}"
        parts += (b'],"model":', _encode(self.model), self._usage(), b"}")
        return b"".join(parts)

    def _vectors(self) -> Iterator[tuple[bytes, ...]]:
        if self.base64:
            for row in self.vectors.astype("<f4", copy=False):
                yield b'"', b2a_base64(row.data, newline=False), b'"'
        else:
            for numbers in self.vectors.tolist():
                yield (_encode(numbers),)

    def _usage(self) -> bytes:
        if self.usage == "missing":
            return b""
        if self.usage == "null":
            return b',"usage":null,"meta":{"usage":null}'
        return (
            b',"usage":{"prompt_tokens":%d,"total_tokens":%d},"meta":{"usage":{"credits_used":%d,"usd_spent":%.8f}}'
            % (self.tokens, self.tokens, 1, 0.0000005)
        )


def error_body(status: int, message: str, envelope: Envelope = "problem", data: object = None) -> bytes:
    """The JSON of an error in one of the gateway's two envelopes."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    if envelope == "flat":
        flat = {"message": message, "path": EMBEDDINGS_PATH, "requestId": "fake", "statusCode": str(status)}
        return _encode(flat | {"timestamp": now})
    phrase = REASONS.get(status, "Error")
    name = "".join(word.capitalize() for word in phrase.split()) + "Exception"
    error = {"name": name, "message": message} | ({} if data is None else {"data": data})
    problem = {"title": phrase, "status": status, "message": message, "instance": EMBEDDINGS_PATH}
    return _encode(problem | {"requestId": "fake", "timestamp": now, "error": error})


def error_type(envelope: Envelope) -> str:
    """The content type that goes with an envelope."""
    return "application/problem+json" if envelope == "problem" else "application/json"


def retry_date(seconds: float) -> dict[str, str]:
    """``Retry-After`` as an HTTP date, in whole seconds, and the ``Date`` that it counts from."""
    now = int(time.time())
    return {"Date": formatdate(now, usegmt=True), "Retry-After": formatdate(now + seconds, usegmt=True)}
