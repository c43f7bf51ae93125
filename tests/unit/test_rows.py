"""Rows are encoded as the binary COPY takes them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from embedq_worker.api.response import _MOST_TOKENS, _tokens
from embedq_worker.store.collection import VectorType
from embedq_worker.store.rows import SIGNATURE, TRAILER, Part, Row, encode


def lines(stream: bytes) -> list[list[bytes | None]]:
    """The fields of each line of a stream."""
    at = len(SIGNATURE)
    found: list[list[bytes | None]] = []
    while stream[at:] != TRAILER:
        (count,) = struct.unpack_from("!h", stream, at)
        at += 2
        found.append([])
        for _ in range(count):
            (length,) = struct.unpack_from("!i", stream, at)
            at += 4
            found[-1].append(None if length == -1 else stream[at : at + length])
            at += max(length, 0)
    return found


@pytest.mark.parametrize(("vector_type", "dtype"), [("vector", ">f4"), ("halfvec", ">f2")])
def test_a_row(vector_type: VectorType, dtype: str) -> None:
    """A line for each part, big-endian, the vectors from their own bytes."""
    vectors = np.array([[0.5, -1.0, 0.25], [1.0, 2.0, -0.5]], dtype=np.float32)
    parts = tuple(Part(content, vector) for content, vector in zip(("text", "é"), vectors, strict=True))
    row = Row(
        id="é", version=7, content_hash=b"h", parts=parts, metadata=b'{"a": 1}', tokens=3, truncated=True
    )
    item = ["é".encode(), struct.pack("!q", 7), b"h", struct.pack("!i", 3), b"\x01", struct.pack("!i", 2)]
    assert lines(encode([row], vector_type)) == [
        [
            *item,
            struct.pack("!i", chunk),
            part.content.encode(),
            b'\x01{"a": 1}',
            struct.pack("!hh", 3, 0) + part.vector.astype(dtype).tobytes(),
        ]
        for chunk, part in enumerate(parts)
    ]


def test_a_delete() -> None:
    """One line for the ledger: no chunks, no content, no vector."""
    row = Row(id="1", version=2, content_hash=b"")
    (line,) = lines(encode([row], "vector"))
    assert line[4:] == [b"\x00", struct.pack("!i", 0), struct.pack("!i", 0), None, None, None]


def test_no_rows() -> None:
    """An empty stream is a signature and a trailer."""
    assert encode([], "vector") == SIGNATURE + TRAILER


def test_tokens_beyond_an_integer_are_no_row() -> None:
    """The encoder refuses them; whoever reads an answer keeps them below."""
    with pytest.raises(struct.error):
        encode([Row(id="1", version=1, content_hash=b"", tokens=2**31)], "vector")
    assert encode([Row(id="1", version=1, content_hash=b"", tokens=_MOST_TOKENS)], "vector")
    assert _tokens({"total_tokens": 5_000_000_000}) == _MOST_TOKENS
