"""Single items, one now and then, each timed from its enqueueing until its row is committed."""

from __future__ import annotations

import time

import psycopg

from tests.bench.ground import Ground
from tests.bench.sampler import Sampler

EVERY = 0.25
"""Seconds between two items."""
LOOK = 0.005
"""Seconds between two looks whether the rows are there."""


class Singles(Sampler):
    """Enqueues to lane ``live`` for the length of a ``with`` block; ``seconds`` of those that were stored."""

    def __init__(self, where: Ground, collection: str, start: str) -> None:
        super().__init__(LOOK, self._step)
        self.seconds: list[float] = []
        self._where = where
        self._collection = collection
        self._start = start
        self._waiting: dict[str, float] = {}
        self._next_at = time.monotonic()
        self._query = f"SELECT id FROM {collection} WHERE id = ANY(%s)"  # noqa: S608  # our own name
        self._connection = psycopg.connect(where.database_url, autocommit=True)

    def _step(self) -> None:
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at += EVERY
            name = f"{self._start}{len(self.seconds) + len(self._waiting)}"
            self._where.producer.enqueue(self._collection, id=name, text=f"single item {name}")
            self._waiting[name] = now
        found = self._connection.execute(self._query.encode(), [list(self._waiting)]).fetchall()
        now = time.monotonic()
        self.seconds += [now - self._waiting.pop(name) for (name,) in found]
