"""The arithmetic of recall: how much of the truth an index finds, and how long it takes.

By distances alone: a row that is as near as the k-th nearest one is as good an answer, so that a tie is no
miss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec


class Neighbour(NamedTuple):
    """A row that a search gave, and its distance to the query."""

    id: str
    chunk: int
    distance: float


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched for."""

    vector: str
    """As pgvector reads it: ``[1,2,3]``."""
    row: tuple[str, int] | None = None
    """Id and chunk of the stored row that it is: not among its own neighbours. None: a stranger's."""

    def neighbours(self, found: Iterable[Neighbour], k: int) -> list[float]:
        """The distances of the first ``k`` rows, the query itself left out.

        A vector without length has no distance to anything (NaN) and is left out too.
        """
        others = (each for each in found if (each.id, each.chunk) != self.row)
        return [each.distance for each in others if not math.isnan(each.distance)][:k]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured at one ``hnsw.ef_search``."""

    ef_search: int
    recall: float
    """Mean over the queries, 0 to 1."""
    worst: float
    """The lowest of a query."""
    p50: float
    """Median milliseconds of a round trip to the server."""
    p95: float
    rows: int
    """The fewest that a query was given, itself not counted."""
    by_index: float
    """Share of the queries that the index answered; the others were answered exactly."""


def recall(exact: Sequence[float], found: Sequence[float]) -> float:
    """Which share of the nearest rows was found; both are distances, nearest first, of different rows.

    ``exact`` holds at least one, ``found`` no more.
    """
    return sum(distance <= exact[-1] for distance in found) / len(exact)


def percentile(values: Iterable[float], share: float) -> float:
    """The lowest of the values that at least such a share (0 to 1) of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def smallest(figures: Iterable[Figures], target: float) -> Figures | None:
    """The figures of the smallest ``ef_search`` whose mean recall reaches ``target``; None if none does."""
    reaching = (each for each in figures if each.recall >= target)
    return min(reaching, key=lambda each: each.ef_search, default=None)
