"""The application of a run: its transactions change its table, and enqueue what they changed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from tests.chaos.outbox.load import Change, Savepoint, Transaction

COLLECTION = "orders"
TABLE = "CREATE TABLE purchase (id text PRIMARY KEY, body text NOT NULL)"
_PUT = """
    WITH changed AS (
        INSERT INTO purchase VALUES (%(id)s, %(text)s) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body
        RETURNING id, body
    )
    SELECT embedq.enqueue('orders', id, body) FROM changed
"""
_DELETE = """
    WITH changed AS (DELETE FROM purchase WHERE id = %(id)s RETURNING id)
    SELECT embedq.enqueue_delete('orders', id) FROM changed
"""
_AGAIN = 0.1
"""Seconds before another attempt where Postgres is away."""

_Connection = psycopg.Connection[tuple[Any, ...]]


class Writing:
    """Runs transactions in ``writers`` threads, each as fast as it can, or ``rate`` a second in all.

    A transaction that Postgres does not answer for is not repeated: its table says whether it was committed.
    """

    def __init__(
        self, database_url: str, transactions: Sequence[Transaction], *, writers: int, rate: float
    ) -> None:
        self._database_url = database_url
        self.planned = len(transactions)
        self._rate = rate
        self._next = iter(enumerate(transactions))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"writer {n}") for n in range(writers)]
        self._error: Exception | None = None
        self.counts: Counter[str] = Counter()
        """Transactions by how they ended."""

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> int:
        """Transactions that have ended."""
        return self.counts.total()

    @property
    def is_over(self) -> bool:
        """Whether all have."""
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Begin no more. Raises what a writer should not have raised."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not (self.is_stopped or self._work()):
                self._ended.wait(_AGAIN)
        except Exception as error:
            self._error = error
            self._ended.set()

    @property
    def is_stopped(self) -> bool:
        """Whether no transaction is begun any more."""
        return self._ended.is_set()

    def _work(self) -> bool:
        """Whether nothing is left to do; False where Postgres went away."""
        try:
            with psycopg.connect(self._database_url, autocommit=True) as connection:
                for transaction in self._mine():
                    self._count("lost sight of", 1)
                    how = _do(connection, transaction)
                    self._count("lost sight of", -1)
                    self._count(how, 1)
        except psycopg.OperationalError:
            return False
        return True

    def _mine(self) -> Iterator[Transaction]:
        """One after the other, when it is due."""
        while not self.is_stopped:
            with self._lock:
                number, transaction = next(self._next, (0, None))
            if transaction is None:
                return
            due = self._began + (number / self._rate if self._rate else 0.0)
            self._ended.wait(max(0.0, due - time.monotonic()))
            yield transaction

    def _count(self, how: str, by: int) -> None:
        with self._lock:
            self.counts[how] += by


def _do(connection: _Connection, transaction: Transaction) -> str:
    """How it ended."""
    with connection.transaction(force_rollback=not transaction.commits):
        for part in transaction.parts:
            _do_part(connection, part)
    return "committed" if transaction.commits else "rolled back"


def _do_part(connection: _Connection, part: Change | Savepoint) -> None:
    if isinstance(part, Savepoint):
        with connection.transaction(force_rollback=not part.is_kept):
            for change in part.changes:
                _do_part(connection, change)
    elif part.text is None:
        connection.execute(_DELETE, {"id": part.id})
    else:
        connection.execute(_PUT, {"id": part.id, "text": part.text})
