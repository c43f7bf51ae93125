"""A collection that moves to another model under load, and every answer held against its texts."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

import numpy as np
import psycopg
from psycopg import sql

from embedq import Producer
from embedq.errors import QueryError
from embedq.testing import FakeAPI, vector_of
from tests.support.stack import wait_until

SALT = "of the new model: "
"""What makes the new model's vectors of a text others."""
GENERATIONS = {1: "", 2: SALT}
K = 5
_PRECISION = 2e-3


@dataclass
class Watch:
    """What was seen."""

    answers: Counter[int] = field(default_factory=Counter)
    """Search statements that were answered, by generation."""
    refused: int = 0
    scans: int = 0
    """Statements that read vectors without a search function."""
    queries: int = 0
    """Texts that a worker embedded, and that were searched for with what came."""
    mixed: list[str] = field(default_factory=list)
    """What should never have been answered."""
    errors: list[str] = field(default_factory=list)


class Moving:
    """Collection ``docs``; its rows' texts say which version of which id they are."""

    def __init__(self, database_url: str, broker_url: str, dimensions: int) -> None:
        self.watch = Watch()
        self.expected: dict[str, str] = {}
        """The last text of each id that was not deleted."""
        self._database_url = database_url
        self._broker_url = broker_url
        self._dimensions = dimensions
        self._over = threading.Event()

    def load(self, rows: int) -> None:
        """Enqueue the first texts."""
        self.expected = {str(number): f"first text of {number}" for number in range(rows)}
        with Producer(self._broker_url) as producer:
            items = ({"id": item_id, "text": text} for item_id, text in self.expected.items())
            producer.enqueue_many("docs", items, lane="bulk")

    @contextmanager
    def going_on(self, writes_a_second: float) -> Iterator[Watch]:
        """Write and search all the time."""
        works: list[Callable[[], None]] = [
            lambda: self._write(writes_a_second),
            lambda: self._search(1),
            lambda: self._search(2),
            self._scan,
            self._query,
        ]
        threads = [threading.Thread(target=self._guard, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield self.watch
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def wait_for_more(self, generation: int, count: int = 20) -> None:
        """Wait until so many more searches of a generation, and of what workers embedded, are answered."""
        answers, queries = self.watch.answers[generation], self.watch.queries
        wait_until(
            lambda: (
                self.watch.answers[generation] >= answers + count and self.watch.queries >= queries + count
            ),
            20,
            lambda: f"{self.watch}",
        )

    def check_rows(self, column: LiteralString, salt: str) -> None:
        """Every id has its last text, and this column its vector."""
        query = sql.SQL("SELECT id, content, {}::real[] FROM docs").format(sql.Identifier(column))
        with psycopg.connect(self._database_url) as connection:
            rows = connection.execute(query).fetchall()
        assert {item_id: text for item_id, text, _ in rows} == self.expected
        for item_id, text, vector in rows:
            assert vector is not None, f"{item_id} has no vector in {column}"
            right = vector_of(salt + text, self._dimensions)
            assert np.allclose(vector, right, atol=1e-6), f"{column} of {item_id} is not its text's"

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.watch.errors.append(repr(error))

    def _write(self, a_second: float) -> None:
        chance = random.Random(1)
        ids = list(self.expected)
        due = time.monotonic()
        with Producer(self._broker_url) as producer:
            number = 0
            while not self._over.is_set():
                number += 1
                item_id = chance.choice(ids) if number % 3 else f"new {number}"
                if number % 10 == 0:
                    producer.delete("docs", [item_id])
                    self.expected.pop(item_id, None)
                else:
                    text = f"text {number} of {item_id}"
                    producer.enqueue("docs", id=item_id, text=text)
                    self.expected[item_id] = text
                due += 1 / a_second
                self._over.wait(max(0.0, due - time.monotonic()))

    def _search(self, generation: int) -> None:
        """With vectors of one model, all the time: right, or refused."""
        chance = random.Random(generation)
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            while not self._over.is_set():
                text = f"first text of {chance.randrange(1000)}"
                vector = vector_of(GENERATIONS[generation] + text, self._dimensions)
                self._ask(connection, vector.tolist(), generation)
                time.sleep(0.01)

    def _query(self) -> None:
        """As an application does: embed, search, and where the model has changed in between again."""
        chance = random.Random(3)
        with (
            psycopg.connect(self._database_url, autocommit=True) as connection,
            Producer(self._broker_url) as producer,
        ):
            while not self._over.is_set():
                text = f"question {chance.random()}"
                try:
                    vector = producer.embed_query("docs", text)
                except QueryError as error:
                    self.watch.errors.append(str(error))
                    continue
                assert vector.generation is not None
                right = vector_of(GENERATIONS[vector.generation] + text, self._dimensions)
                if not np.allclose(vector, right, atol=1e-6):
                    self.watch.mixed.append("the vector of a query is not of its generation")
                self._ask(connection, vector, vector.generation)
                self.watch.queries += 1
                time.sleep(0.01)

    def _ask(self, connection: psycopg.Connection[Any], vector: list[float], generation: int) -> None:
        try:
            rows = connection.execute(
                "SELECT content, distance FROM docs_search(%s::real[]::vector, %s, %s)",
                (vector, K, generation),
            ).fetchall()
        except psycopg.DataError:
            self.watch.refused += 1
            return
        self.watch.answers[generation] += 1
        for text, distance in rows:
            stored = vector_of(GENERATIONS[generation] + text, self._dimensions)
            if abs(1 - float(np.dot(stored, vector)) - distance) > _PRECISION:
                self.watch.mixed.append(f"a search of generation {generation} met another model's vector")
                return

    def _scan(self) -> None:
        """Plain SQL on the table: the vectors that one statement sees are of one model."""
        query = "SELECT content, embedding::real[] FROM docs ORDER BY id LIMIT 20"
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            while not self._over.is_set():
                rows = connection.execute(query).fetchall()
                fitting = [
                    all(np.allclose(vector, vector_of(salt + text, self._dimensions), atol=1e-6)
                        for text, vector in rows)
                    for salt in GENERATIONS.values()
                ]  # fmt: skip
                self.watch.scans += 1
                if rows and not any(fitting):
                    self.watch.mixed.append("a statement saw vectors of two models")
                time.sleep(0.03)


def give_two_models(api: FakeAPI, old: str, new: str) -> None:
    """Let the API's models give different vectors of the same text."""
    api.configure(model=old, salt="")
    api.configure(model=new, salt=SALT)
