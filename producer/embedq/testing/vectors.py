"""Deterministic vectors: a pure function of a text and a number of dimensions.

A text's digest seeds a counter-based generator of 16-bit integers, all odd; the vector is those integers
over their norm. The sum of squares is exact in integers, so the same text gives the same bits in any process
and in any batch. As with the models that take ``dimensions``, a shorter vector is a longer one cut and
normalised. Different texts give nearly orthogonal vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

DIGEST_BYTES = 8

_GOLDEN = np.uint32(0x9E3779B9)
_MIX_1 = np.uint32(0x85EBCA6B)
_MIX_2 = np.uint32(0xC2B2AE35)


def vector_of(text: str, dimensions: int) -> Vectors:
    """The vector of ``text``: float32, shape ``(dimensions,)``, unit length to float32's precision."""
    vector: Vectors = vectors_of([digest_of(text)], dimensions)[0]
    return vector


def digest_of(text: str) -> bytes:
    """What identifies a text here: 8 bytes of BLAKE2b over its UTF-8."""
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def vectors_of(digests: Sequence[bytes], dimensions: int) -> Vectors:
    """The vectors of many digests at once: float32, shape ``(len(digests), dimensions)``."""
    components = _mixed(digests, dimensions)
    squares = np.einsum("ij,ij->i", components, components, dtype=np.int64)
    vectors = components.astype(np.float32)
    vectors *= (1.0 / np.sqrt(squares)).astype(np.float32)[:, np.newaxis]
    return vectors


def tokens_of(text: str) -> int:
    """What the fake API counts as tokens: one for each four bytes of UTF-8, rounded up."""
    return _tokens(len(text.encode()))


def measure(text: str) -> tuple[bytes, int]:
    """Digest and tokens of a text, encoding it once."""
    encoded = text.encode()
    return blake2b(encoded, digest_size=DIGEST_BYTES).digest(), _tokens(len(encoded))


def _tokens(size: int) -> int:
    return (size + 3) // 4


def _mixed(digests: Sequence[bytes], dimensions: int) -> npt.NDArray[np.int16]:
    """Odd 16-bit integers: MurmurHash3's finaliser over a counter, keyed by both halves of the digest."""
    keys = np.frombuffer(b"".join(digests), dtype="<u4").reshape(-1, 2)
    x = keys[:, :1] + np.arange((dimensions + 1) // 2, dtype=np.uint32) * _GOLDEN
    shifted = np.empty_like(x)
    x ^= np.right_shift(x, 16, out=shifted)
    x *= _MIX_1
    x ^= keys[:, 1:]
    x ^= np.right_shift(x, 13, out=shifted)
    x *= _MIX_2
    x ^= np.right_shift(x, 16, out=shifted)
    components: npt.NDArray[np.int16] = x.view("<i2")[:, :dimensions]
    # Odd, so that no vector is zero.
    return components | np.int16(1)
