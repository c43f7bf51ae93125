"""Following a table while many write it, workers fill and settle: all ends as the table says."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import IsolationLevel, errors

from embedq_worker.store.postgres.connections import Connection, connect
from tests.support.stack import wait_until
from tests.support.watching import WATCH, fill, followed, make_watched, settle, wanted

CHANGES: list[LiteralString] = [
    "INSERT INTO product VALUES (%(one)s, %(text)s, '!', 'en')",
    "UPDATE product SET name = %(text)s WHERE sku = %(one)s",
    "UPDATE product SET name = %(text)s WHERE sku IN (%(one)s, %(two)s)",
    "UPDATE product SET price = price + 1 WHERE sku = %(one)s",
    "UPDATE product SET lang = %(text)s WHERE sku = %(two)s",
    "UPDATE product SET name = NULL WHERE sku = %(one)s",
    "UPDATE product SET name = '', about = ' ' WHERE sku = %(one)s",
    "UPDATE product SET sku = %(two)s WHERE sku = %(one)s",
    "UPDATE product SET sku = translate(sku, 'abcdefghij', 'badcfehgji') WHERE sku < %(one)s",
    "DELETE FROM product WHERE sku = %(one)s",
    "DELETE FROM product WHERE sku > %(one)s",
    """
    MERGE INTO product USING (VALUES (%(one)s), (%(two)s)) AS given (key) ON sku = key AND %(one)s <> %(two)s
    WHEN MATCHED AND key = %(one)s THEN DELETE WHEN MATCHED THEN UPDATE SET about = %(text)s
    WHEN NOT MATCHED THEN INSERT VALUES (key, 'M', %(text)s, 'en')
    """,
]
IDS = "abcdefghij"
HARMLESS = (
    errors.UniqueViolation,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.CardinalityViolation,
)


class Rollback(Exception):
    """What an application does now and then."""


def change(connection: psycopg.Connection[Any], chance: random.Random, number: int) -> None:
    """A transaction of one to four statements, which may fail or be rolled back, wholly or to a savepoint."""
    try:
        with connection.transaction():
            for _ in range(chance.choice((1, 1, 1, 4))):
                one, two = chance.choice(IDS), chance.choice(IDS)
                given = {"one": one, "two": two, "text": f"text {number} {chance.random()}"}
                try:
                    with connection.transaction():
                        connection.execute(chance.choice(CHANGES), given)
                        if chance.random() < 0.1:
                            raise Rollback
                except (Rollback, errors.UniqueViolation, errors.CardinalityViolation):
                    pass
            if chance.random() < 0.1:
                raise Rollback
    except (Rollback, *HARMLESS):
        pass


@pytest.mark.parametrize("seed", range(2))
def test_one_after_the_other(connection: Connection, seed: int) -> None:
    """After each transaction; the backfill and the writer come in between."""
    chance = random.Random(seed)
    make_watched(connection)
    for number in range(20):
        change(connection, chance, number)
    connection.execute(WATCH)
    for number in range(300):
        change(connection, chance, number)
        if number > 100 and chance.random() < 0.1:
            fill(connection, 2)
        if chance.random() < 0.2:
            settle(connection)
        if number > 200 and fill(connection, 1) is None:
            assert followed(connection) == wanted(connection), f"after transaction {number}"
    while fill(connection, 2):
        pass
    assert followed(connection) == wanted(connection)


def write(url: str, seed: int, isolation: IsolationLevel) -> None:
    """An application."""
    chance = random.Random(seed)
    with connect(url) as connection:
        connection.execute("SET deadlock_timeout = '20ms'")
        connection.isolation_level = isolation
        for number in range(80):
            change(connection, chance, number)


def repeat(url: str, step: Callable[[psycopg.Connection[Any]], object], times: int) -> None:
    """A worker."""
    with connect(url) as connection:
        for _ in range(times):
            step(connection)


def test_at_once(connection: Connection, database_url: str) -> None:
    """Writers of the same few rows at two levels of isolation; two fill, one settles, one watches anew."""
    make_watched(connection)
    chance = random.Random(7)
    for number in range(50):
        change(connection, chance, number)
    connection.execute("DELETE FROM embedq.outbox")
    connection.execute(WATCH)
    with ThreadPoolExecutor() as threads:
        levels = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ) * 2
        running = [threads.submit(write, database_url, seed, level) for seed, level in enumerate(levels)]
        running += [threads.submit(repeat, database_url, partial(fill, rows=1), 30) for _ in range(2)]
        running.append(threads.submit(repeat, database_url, settle, 60))
        running.append(threads.submit(repeat, database_url, lambda each: each.execute(WATCH), 5))
        for each in running:
            each.result()
    while fill(connection, 1):
        pass

    assert followed(connection) == wanted(connection)
    assert connection.execute("SELECT count(*) FROM embedq.missed_change").fetchall() == [(0,)]


def test_a_change_under_way_wins_over_the_backfill(connection: Connection, database_url: str) -> None:
    """The backfill sees the row as it was, and is through before the change is committed."""
    make_watched(connection)
    connection.execute("INSERT INTO product VALUES ('a', 'old', ''), ('b', 'old', '')")
    connection.execute(WATCH)
    with connect(database_url) as other, other.transaction():
        other.execute("UPDATE product SET name = 'new' WHERE sku = 'a'")
        other.execute("DELETE FROM product WHERE sku = 'b'")
        assert fill(connection, 10) == 2

    assert followed(connection) == wanted(connection) == {"a": ("new", {"lang": None})}


def test_who_ends_a_watch_waits_for_a_step_of_the_backfill(connection: Connection, database_url: str) -> None:
    """Before the table is locked, which the step is about to read: no deadlock."""
    make_watched(connection)
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as threads, connect(database_url) as other:
        with connection.transaction():
            connection.execute("SELECT FROM embedq.watched_table FOR UPDATE")  # as embedq.fill begins
            ending = threads.submit(other.execute, "SELECT embedq.unwatch('products')")
            wait_until(lambda: connection.execute(waiting).fetchall() != [], 10)
            connection.execute("SET LOCAL lock_timeout = '2s'")
            assert fill(connection, 10) == 0
        ending.result()


def test_watching_again_waits_for_no_reader(connection: Connection, database_url: str) -> None:
    """Nor do those wait who come after it; triggers that were off are on again."""
    make_watched(connection)
    connection.execute("ALTER TABLE product DISABLE TRIGGER USER")
    with connect(database_url) as reader, reader.transaction():
        reader.execute("SELECT FROM product")
        connection.execute(WATCH)
    connection.execute("INSERT INTO product VALUES ('a', 'new', '')")

    assert followed(connection) == wanted(connection) == {"a": ("new", {"lang": None})}
