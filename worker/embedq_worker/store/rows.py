"""Rows as the binary COPY takes them: from the vectors' own bytes, with no Python float on the way.

The format is that of ``COPY … (FORMAT binary)``: a signature, then for each row the number of its fields
and for each field its length and bytes, all big-endian. A ``vector`` is its dimensions and a zero as int16,
then float32; a ``halfvec`` the same with float16 (pgvector's ``vector_send`` and ``halfvec_send``).
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from embedq_worker.store.collection import VectorType

_DTYPES: dict[VectorType, np.dtype[np.floating[Any]]] = {
    "vector": np.dtype(">f4"),
    "halfvec": np.dtype(">f2"),
}

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

_length = Struct("!i").pack
_version_field = Struct("!iq").pack
_int_field = Struct("!ii").pack
_vector_head = Struct("!ihh").pack
_FIELDS = Struct("!h").pack(8)
_TRUE = b"\x00\x00\x00\x01\x01"
_FALSE = b"\x00\x00\x00\x01\x00"


class Row(msgspec.Struct, frozen=True):
    """What the writer stores of one item; without a vector it deletes the id."""

    id: str
    version: int
    content_hash: bytes
    content: str | None = None
    metadata: bytes | None = None
    """JSON."""
    vector: NDArray[np.float32] | None = None
    """Shape (dimensions,)."""
    tokens: int = 0


def encode(rows: Iterable[Row], vector_type: VectorType) -> bytes:
    """The rows as one binary COPY stream.

    Id, version, content_hash, tokens, deleted, then content, metadata, embedding.
    """
    dtype = _DTYPES[vector_type]
    parts = [SIGNATURE]
    for row in rows:
        item_id = row.id.encode()
        parts += (
            _FIELDS,
            _length(len(item_id)),
            item_id,
            _version_field(8, row.version),
            _length(len(row.content_hash)),
            row.content_hash,
            _int_field(4, row.tokens),
        )
        if row.vector is None or row.content is None:
            parts += (_TRUE, NULL, NULL, NULL)
        else:
            parts.append(_FALSE)
            parts += _content_fields(row, row.content, row.vector.astype(dtype))
    parts.append(TRAILER)
    return b"".join(parts)


def _content_fields(row: Row, content: str, vector: NDArray[np.generic]) -> tuple[bytes, ...]:
    text = content.encode()
    metadata = row.metadata or b"{}"
    return (
        _length(len(text)),
        text,
        _length(len(metadata) + 1) + b"\x01",  # jsonb's version
        metadata,
        _vector_head(4 + vector.nbytes, len(vector), 0),
        vector.tobytes(),
    )
