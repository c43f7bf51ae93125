"""Rows are encoded as the binary COPY takes them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from embedq_worker.api.response import _MOST_TOKENS, _tokens
from embedq_worker.store.collection import VectorType
from embedq_worker.store.rows import SIGNATURE, TRAILER, Row, encode


def fields(stream: bytes) -> list[bytes | None]:
    """The fields of the only row of a stream."""
    at = len(SIGNATURE)
    (count,) = struct.unpack_from("!h", stream, at)
    at += 2
    found: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", stream, at)
        at += 4
        found.append(None if length == -1 else stream[at : at + length])
        at += max(length, 0)
    assert stream[at:] == TRAILER
    return found


@pytest.mark.parametrize(("vector_type", "dtype"), [("vector", ">f4"), ("halfvec", ">f2")])
def test_a_row(vector_type: VectorType, dtype: str) -> None:
    """Eight fields, big-endian, the vector from its own bytes."""
    vector = np.array([0.5, -1.0, 0.25], dtype=np.float32)
    row = Row(
        id="é", version=7, content_hash=b"h", content="texte", metadata=b'{"a": 1}', vector=vector, tokens=3
    )
    expected = struct.pack("!hh", 3, 0) + vector.astype(dtype).tobytes()
    assert fields(encode([row], vector_type)) == [
        "é".encode(),
        struct.pack("!q", 7),
        b"h",
        struct.pack("!i", 3),
        b"\x00",
        b"texte",
        b'\x01{"a": 1}',
        expected,
    ]


def test_a_delete() -> None:
    """No content, no vector."""
    row = Row(id="1", version=2, content_hash=b"")
    assert fields(encode([row], "vector"))[4:] == [b"\x01", None, None, None]


def test_no_rows() -> None:
    """An empty stream is a signature and a trailer."""
    assert encode([], "vector") == SIGNATURE + TRAILER


def test_tokens_beyond_an_integer_are_no_row() -> None:
    """The encoder refuses them; whoever reads an answer keeps them below."""
    with pytest.raises(struct.error):
        encode([Row(id="1", version=1, content_hash=b"", tokens=2**31)], "vector")
    assert encode([Row(id="1", version=1, content_hash=b"", tokens=_MOST_TOKENS)], "vector")
    assert _tokens({"total_tokens": 5_000_000_000}) == _MOST_TOKENS
