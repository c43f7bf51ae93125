"""Vectors with neighbours worth finding: a mixture of Gaussians, the same ones in each run.

Embeddings of texts lie in topics, and within a topic in few directions; there, unlike among points that are
random in every direction, some rows are much nearer than others. So each vector is the centre of a cluster, a
step in some of ``RANK`` directions of that cluster, and a little of every direction, at unit length.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Vector = NDArray[np.float32]

CLUSTERS = 100
RANK = 32
SPREAD = 0.8
"""Length of a step within a cluster; the centre's is 1. So a query's nearest rows are at cosine distances of
about 0.2 to 0.3, like those of texts, and an index misses some of them."""
NOISE = 0.3
"""Length of what is random in every direction."""
BLOCK = 500
"""Vectors made at a time, from a seed of their own."""


class Mixture:
    """An endless sequence of vectors."""

    def __init__(self, dimensions: int, clusters: int = CLUSTERS, seed: int = 5) -> None:
        self._dimensions = dimensions
        self._seed = seed
        random = np.random.default_rng(seed)
        self._centres = _unit(_normal(random, (clusters, dimensions)))
        self._directions = _unit(_normal(random, (clusters, RANK, dimensions)))

    def take(self, start: int, count: int) -> Iterator[tuple[Vector, int]]:
        """So many vectors from place ``start`` on, a multiple of ``BLOCK``, each with the number of its
        cluster; shape (dimensions,)."""
        for first in range(start, start + count, BLOCK):
            vectors, clusters = self._block(first // BLOCK)
            yield from islice(zip(vectors, clusters.tolist(), strict=True), start + count - first)

    def _block(self, number: int) -> tuple[Vectors, NDArray[np.intp]]:
        random = np.random.default_rng((self._seed, number))
        clusters = random.integers(len(self._centres), size=BLOCK)
        steps = _normal(random, (BLOCK, 1, RANK)) * np.float32(SPREAD / RANK**0.5)
        noise = _normal(random, (BLOCK, self._dimensions)) * np.float32(NOISE / self._dimensions**0.5)
        moved = (steps @ self._directions[clusters])[:, 0]
        return _unit(self._centres[clusters] + moved + noise), clusters


def _normal(random: np.random.Generator, shape: tuple[int, ...]) -> Vectors:
    return random.standard_normal(shape, dtype=np.float32)


def _unit(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths
