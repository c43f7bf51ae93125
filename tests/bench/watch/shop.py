"""A table that is watched, and those who update it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

WORDS = ("oak", "steel", "lamp", "chair", "blue", "round", "kettle", "wool", "glass", "desk", "paper", "cup")
_TABLE = """
    CREATE TABLE product (
        id bigint PRIMARY KEY, name text NOT NULL, about text NOT NULL, lang text NOT NULL DEFAULT 'en',
        price integer NOT NULL DEFAULT 0
    ) WITH (fillfactor = 80)
"""
WATCH = """
    SELECT embedq.watch('product', id => 'id', text => 'name || '': '' || about', collection => 'products',
                        metadata => 'jsonb_build_object(''lang'', lang)')
"""
_DIFFERENCE = """
    SELECT count(*)
    FROM products AS stored FULL JOIN product ON stored.id = product.id::text
    WHERE stored.content IS DISTINCT FROM name || ': ' || about
       OR stored.metadata IS DISTINCT FROM jsonb_build_object('lang', lang)
"""
_OTHER_TEXT = "UPDATE product SET about = %s WHERE id = %s"
_SAME_TEXT = "UPDATE product SET price = price + 1 WHERE id = %s"


def about(number: int) -> str:
    """A text of some 200 characters that no other number has."""
    chance = random.Random(number)
    return f"{number} " + " ".join(chance.choice(WORDS) for _ in range(36))


def make(database_url: str, rows: int) -> None:
    """A table of so many rows, each with a text of its own."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_TABLE)
        with connection.cursor() as cursor, cursor.copy("COPY product (id, name, about) FROM STDIN") as copy:
            for number in range(rows):
                copy.write_row((number, "product", about(number)))
        connection.execute("VACUUM ANALYZE product")


def differing(database_url: str) -> int:
    """Rows of which the collection does not say what the table says."""
    with psycopg.connect(database_url) as connection:
        return int(connection.execute(_DIFFERENCE).fetchall()[0][0])


@dataclass
class Updates:
    """Single-row updates at a steady rate, by several connections; a third of them leaves the text alone."""

    database_url: str
    rows: int
    first: int
    """The number of the first text: those from here on are new."""
    latencies: list[float] = field(default_factory=list)
    """Seconds of each statement, commit included."""
    texts: int = 0
    """Updates that changed a text."""

    def run(self, rate: float, seconds: float, connections: int = 4) -> None:
        """Until the time is over."""
        threads = [
            threading.Thread(target=self._write, args=(each, connections, rate / connections, seconds))
            for each in range(connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _write(self, writer: int, of: int, rate: float, seconds: float) -> None:
        chance = random.Random(writer)
        began = time.perf_counter()
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            for turn in range(int(rate * seconds)):
                time.sleep(max(0.0, began + turn / rate - time.perf_counter()))
                key = chance.randrange(self.rows)
                touches = turn % 3 != 0
                parameters: Sequence[object] = (
                    (about(self.first + turn * of + writer), key) if touches else (key,)
                )
                started = time.perf_counter()
                connection.execute(_OTHER_TEXT if touches else _SAME_TEXT, parameters)
                self.latencies.append(time.perf_counter() - started)
                self.texts += touches


def percentile(share: float, latencies: Sequence[float]) -> float:
    """The latency, in milliseconds, that so large a share of them does not exceed."""
    return 1_000 * sorted(latencies)[int(share * len(latencies))]
