"""What the functions in SQL compute, plainly in numpy. Vectors are rows, distances cosine distances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float64]


def units(vectors: Vectors) -> Vectors:
    """Each with length 1."""
    found: Vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return found


def distances(one: Vectors, other: Vectors) -> Vectors:
    """Of each of the one to each of the other, shape ``(len(one), len(other))``."""
    found: Vectors = 1 - units(one) @ units(other).T
    return found


def rocchio(liked: Vectors, disliked: Vectors, weight: float) -> Vectors:
    """Mean of the liked minus a weight of the mean of the disliked."""
    centre: Vectors = units(liked).mean(axis=0)
    if len(disliked):
        centre = centre - weight * units(disliked).mean(axis=0)
    return centre


def mean_pairwise(vectors: Vectors) -> float:
    """The mean distance of all pairs."""
    every = distances(vectors, vectors)
    return float(np.mean([every[i, j] for i in range(len(vectors)) for j in range(i)]))


def mmr(query: Vectors, candidates: Vectors, k: int, weight: float) -> list[int]:
    """Greedy maximal marginal relevance: the numbers of the picks, from 0; ``weight`` is lambda."""
    relevance = 1 - distances(candidates, query[None])[:, 0]
    similarity = 1 - distances(candidates, candidates)
    picks: list[int] = []
    while len(picks) < min(k, len(candidates)):
        scores = {
            each: weight * relevance[each]
            - (1 - weight) * max((similarity[each, pick] for pick in picks), default=0.0)
            for each in range(len(candidates))
            if each not in picks
        }
        picks.append(max(scores, key=lambda each: scores[each]))
    return picks


def shares(near: Sequence[tuple[float, str]]) -> dict[str, float]:
    """Confidence of each label among neighbours ``(distance, label)``."""
    weights: dict[str, float] = defaultdict(float)
    for distance, label in near:
        weights[label] += 1 / max(distance, 1e-6)
    return {label: weight / sum(weights.values()) for label, weight in weights.items()}


def kmeans(vectors: Vectors, centroids: Vectors, rounds: int) -> Vectors:
    """Lloyd's rounds on the unit sphere from given centroids, none of which may lose all its members."""
    for _ in range(rounds):
        nearest = distances(vectors, centroids).argmin(axis=1)
        means = [units(vectors)[nearest == each].mean(axis=0) for each in range(len(centroids))]
        centroids = units(np.array(means))
    return centroids
