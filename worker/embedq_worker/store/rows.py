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
_FIELDS = Struct("!h").pack(10)
_FIELDS_OF_BOTH = Struct("!h").pack(11)
_FILLED_FIELDS = Struct("!h").pack(4)
_TRUE = b"\x00\x00\x00\x01\x01"
_FALSE = b"\x00\x00\x00\x01\x00"


class Part(msgspec.Struct, frozen=True):
    """A part of an item's text, or all of it, with its vector: a row of the collection's table."""

    content: str
    vector: NDArray[np.float32]
    """Shape (dimensions,)."""
    shadow: NDArray[np.float32] | None = None
    """That of the other model, while the collection moves from one to another; None: not yet."""


class Row(msgspec.Struct, frozen=True):
    """What the writer stores of one item; without parts it deletes the id."""

    id: str
    version: int
    content_hash: bytes
    parts: tuple[Part, ...] = ()
    """In the text's order; a part's place is its ``chunk``."""
    metadata: bytes | None = None
    """JSON."""
    tokens: int = 0
    truncated: bool = False
    """Whether the vector is that of a text that was cut."""
    is_from_outbox: bool = False
    """Whether the id may have rows in the outbox, which go with the write."""


class Filled(msgspec.Struct, frozen=True):
    """A vector for a row that lacks it."""

    id: str
    chunk: int
    content_hash: bytes
    """SHA-256 of the text that it was made of."""
    vector: NDArray[np.float32]


def encode(rows: Iterable[Row], vector_type: VectorType, shadow_type: VectorType | None = None) -> bytes:
    """The rows as one binary COPY stream: a line for each part, and one for a delete.

    Id, version, content_hash, tokens, truncated, chunks, then chunk, content, metadata, embedding, and with a
    ``shadow_type`` the other model's vector.
    """
    dtype = _DTYPES[vector_type]
    nothing = (NULL, NULL, NULL) if shadow_type is None else (NULL, NULL, NULL, NULL)
    stream = [SIGNATURE]
    for row in rows:
        head = _item_fields(row, _FIELDS if shadow_type is None else _FIELDS_OF_BOTH)
        if not row.parts:
            stream += (*head, _int_field(4, 0), *nothing)
        for chunk, part in enumerate(row.parts):
            stream += head
            stream += _part_fields(chunk, part.content, row.metadata or b"{}", part.vector.astype(dtype))
            if shadow_type is not None:
                stream += _shadow_field(part, shadow_type)
    stream.append(TRAILER)
    return b"".join(stream)


def encode_filled(rows: Iterable[Filled], vector_type: VectorType) -> bytes:
    """The same of vectors alone: id, chunk, content_hash, embedding."""
    dtype = _DTYPES[vector_type]
    stream = [SIGNATURE]
    for row in rows:
        item_id = row.id.encode()
        stream += (_FILLED_FIELDS, _length(len(item_id)), item_id, _int_field(4, row.chunk))
        stream += (_length(len(row.content_hash)), row.content_hash)
        stream += _vector_field(row.vector.astype(dtype))
    stream.append(TRAILER)
    return b"".join(stream)


def _shadow_field(part: Part, shadow_type: VectorType) -> tuple[bytes, ...]:
    return (NULL,) if part.shadow is None else _vector_field(part.shadow.astype(_DTYPES[shadow_type]))


def _vector_field(vector: NDArray[np.generic]) -> tuple[bytes, ...]:
    return _vector_head(4 + vector.nbytes, len(vector), 0), vector.tobytes()


def _item_fields(row: Row, fields: bytes) -> tuple[bytes, ...]:
    item_id = row.id.encode()
    return (
        fields,
        _length(len(item_id)),
        item_id,
        _version_field(8, row.version),
        _length(len(row.content_hash)),
        row.content_hash,
        _int_field(4, row.tokens),
        _TRUE if row.truncated else _FALSE,
        _int_field(4, len(row.parts)),
    )


def _part_fields(chunk: int, content: str, metadata: bytes, vector: NDArray[np.generic]) -> tuple[bytes, ...]:
    text = content.encode()
    return (
        _int_field(4, chunk),
        _length(len(text)),
        text,
        _length(len(metadata) + 1) + b"\x01",  # jsonb's version
        metadata,
        *_vector_field(vector),
    )
