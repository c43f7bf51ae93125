"""Vectors of queries that were asked lately, by collection and text."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from embedq.errors import ConfigurationError
from embedq.query import QueryVector


class QueryCache:
    """The last ``size`` vectors, each for ``seconds`` after its question was asked; safe to share.

    A collection may move to another model meanwhile: for so long it answers with the old one's vector, whose
    ``generation`` a search refuses. 0 keeps nothing.
    """

    def __init__(self, size: int, seconds: float) -> None:
        if size < 0:
            raise ConfigurationError(f"query_cache_size is {size}; give a number of vectors, 0 for none")
        if not seconds > 0:
            raise ConfigurationError(f"query_cache_seconds is {seconds}; give seconds above 0")
        self._size = size
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, QueryVector]] = OrderedDict()

    def get(self, collection: str, text: str) -> QueryVector | None:
        """A copy of the vector, while it is fresh."""
        if not self._size:
            return None
        with self._lock:
            ends, vector = self._kept.get((collection, text), (0.0, None))
            if vector is None or ends < time.monotonic():
                return None
            self._kept.move_to_end((collection, text))
        return QueryVector(vector, vector.generation)

    def put(self, collection: str, text: str, vector: QueryVector, asked_at: float) -> None:
        """Keep a copy. ``asked_at``: when the question was sent, by the monotonic clock."""
        if not self._size:
            return
        copy = QueryVector(vector, vector.generation)
        with self._lock:
            self._kept[collection, text] = asked_at + self._seconds, copy
            self._kept.move_to_end((collection, text))
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
