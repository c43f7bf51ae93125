"""Workers fill a collection from its watched table and follow it, and the command ``embedq watch``."""

from __future__ import annotations

import json
import re
from typing import LiteralString

import numpy as np
import psycopg
import pytest

from embedq.testing import vector_of
from embedq_worker.engine.outbox.backfill import Backfill
from embedq_worker.metrics.outbox import AMISS
from embedq_worker.store.outbox.backfill import count_waiting, fill_step
from embedq_worker.store.postgres.database import Database
from tests.support.moving import SALT, give_two_models
from tests.support.stack import DIMENSIONS, MODEL, Stack, wait_until

_TABLE = """
    CREATE TABLE product (sku integer PRIMARY KEY, name text, lang text, price integer NOT NULL DEFAULT 0);
    INSERT INTO product (sku, name, lang) SELECT n, 'product ' || n, 'en' FROM generate_series(1, 3000) AS n
"""
_ADD = ("watch", "add", "public.product", "--collection", "products", "--id", "sku", "--text", "name")


@pytest.fixture
def shop(stack: Stack) -> Stack:
    """A table of 3,000 rows that the collection ``products`` follows."""
    stack.create("products")
    with psycopg.connect(stack.database_url) as connection:
        connection.execute(_TABLE)
    stack.command(*_ADD, "--metadata", "jsonb_build_object('lang', lang)")
    return stack


def change(stack: Stack, *statements: str) -> None:
    """Run them, each in a transaction of its own."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def wait_until_equal(stack: Stack) -> None:
    """Until the collection says what the table says, and nothing of it is on its way."""
    difference = """
        SELECT count(*) FROM products FULL JOIN product ON id = sku::text
        WHERE content IS DISTINCT FROM name OR metadata IS DISTINCT FROM jsonb_build_object('lang', lang)
    """
    waiting = "SELECT count(*) FROM embedq.outbox"

    def left() -> list[int]:
        return [stack.sql(difference)[0][0], stack.sql(waiting)[0][0]]

    wait_until(lambda: left() == [0, 0], 40, lambda: f"{left()} rows differ, and wait")


def filled(stack: Stack) -> int:
    """Rows that the backfill has read."""
    return int(stack.sql("SELECT filled_rows FROM embedq.watch_status")[0][0])


def test_a_table_is_filled_and_followed(shop: Stack) -> None:
    """Through a kill in the middle of the backfill, without a needless call, and with what changes then."""
    with shop.worker() as worker:
        wait_until(lambda: filled(shop) > 0, 30)
        worker.kill()
    with shop.worker():
        change(
            shop,
            "UPDATE product SET price = price + 1",
            "UPDATE product SET name = 'changed ' || sku WHERE sku % 10 = 1",
            "DELETE FROM product WHERE sku % 10 = 2",
        )
        wait_until_equal(shop)
        watch = json.loads(shop.command("watch", "list", "--json"))[0]
        assert (watch["state"], watch["source"]) == ("following", "product")
        assert 2700 <= watch["filled_rows"] <= 3000  # some were deleted before they were read
        texts = shop.api.stats().texts

        change(
            shop,
            "UPDATE product SET price = price + 1",
            "UPDATE product SET lang = 'de' WHERE sku <= 100",
            "UPDATE product SET name = 'again' WHERE sku = 3",
            "UPDATE product SET sku = 9000 WHERE sku = 4",
            "TRUNCATE product",
            "INSERT INTO product VALUES (5, 'last', 'en')",
        )
        wait_until_equal(shop)
        assert shop.stored("products") == {"5": "last"}
        assert shop.api.stats().texts <= texts + 3

        move_to_another_model(shop)


def move_to_another_model(shop: Stack) -> None:
    """Changes are followed before the switch, after it and after the end; the vectors are each model's."""
    new = "text-embedding-3-large"
    give_two_models(shop.api, MODEL, new)
    begin = ("--model", new, "--dimensions", str(DIMENSIONS))
    for step in (begin, ("--switch",), ("--finish",)):
        shop.command("collection", "migrate", "products", *step)
        change(
            shop,
            "UPDATE product SET name = 'changed at ' || clock_timestamp()",
            "INSERT INTO product SELECT max(sku) + 1, 'added', 'en' FROM product",
        )
        wait_until_equal(shop)
        if step == ("--switch",):
            check_vectors(shop, "SELECT content, embedding_g1::real[] FROM products", "")
    check_vectors(shop, "SELECT content, embedding::real[] FROM products", SALT)
    assert shop.sql("SELECT state FROM embedq.watch_status") == [("following",)]


def check_vectors(shop: Stack, query: LiteralString, salt: str) -> None:
    """Of texts and their vectors."""
    rows = shop.sql(query)
    assert len(rows) >= 3
    for text, vector in rows:
        assert np.allclose(vector, vector_of(salt + text, DIMENSIONS), atol=2e-3)


def test_the_command(shop: Stack) -> None:
    """What it says of a watch, of one that is amiss, and of what cannot be."""
    assert "products  follows product by sku; filling, 0" in shop.command("watch", "list")
    change(shop, "ALTER TABLE product RENAME name TO title", "UPDATE product SET lang = 'fr'")
    assert re.search(
        r"BEHIND: changes were missed since .* ago \(SQLSTATE 42703\)", shop.command("watch", "list")
    )
    said = shop.command(*_ADD, code=1)
    assert said.startswith("embedq: table public.product is not watched: the text cannot be made of a row of")
    assert "there is no such table" in shop.command(*_ADD[:2], "shop.none", *_ADD[3:], code=1)
    shop.command("watch", "remove", "products")
    assert "follows no table" in shop.command("watch", "remove", "products", code=1)
    assert "no collection follows a table" in shop.command("watch", "list")


async def test_why_a_table_is_not_read_is_said_again(shop: Stack, caplog: pytest.LogCaptureFixture) -> None:
    """Once while it lasts, and once more where it comes back after the table was read."""
    database = Database(shop.database_url, connections=1)
    await database.open()
    backfill = Backfill(database)
    try:
        for _ in range(2):
            change(shop, "ALTER TABLE product RENAME name TO title")
            for _ in range(2):
                await backfill._fill("products")
            change(shop, "ALTER TABLE product RENAME title TO name")
            await backfill._fill("products")
            change(shop, "SELECT embedq.watch('product', 'sku', 'name', 'products')")
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    finally:
        await database.close()


async def test_steps_of_a_worker_with_least_rights(shop: Stack) -> None:
    """A role that was granted what workers need fills, whether before the watch was made or after."""
    role = f"worker_{shop.sql('SELECT current_database()')[0][0]}"
    change(shop, f"CREATE ROLE {role} LOGIN", f"SELECT embedq.grant_worker('{role}')")
    database = Database(shop.database_url.replace("postgres@", f"{role}@", 1), connections=1)
    await database.open()
    try:
        assert await fill_step(database, "products", 2000) == 2000
        shop.command(*_ADD)
        assert [await fill_step(database, "products", 2000) for _ in range(4)] == [2000, 1000, 0, None]
        assert [watch.state for watch in await Backfill(database).look()] == ["following"]
        assert [family.samples for family in AMISS.collect()] == [[]]
        change(shop, "ALTER TABLE product DISABLE TRIGGER USER")
        await Backfill(database).look()
        samples = [sample.labels for family in AMISS.collect() for sample in family.samples]
        assert samples == [{"collection": "products", "state": "triggers off"}]
        assert await count_waiting(database, "products", 4500) == 4500
    finally:
        await database.close()
        change(shop, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
