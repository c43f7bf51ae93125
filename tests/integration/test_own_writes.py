"""Real workers on somebody's own table: they write the vectors of rows that are there, and nothing else."""

from __future__ import annotations

import json
from typing import LiteralString

import numpy as np
import psycopg
import pytest
from psycopg import errors, sql

from embedq.testing import vector_of
from tests.support.roles import name_in, role
from tests.support.stack import DIMENSIONS, Stack, wait_until
from tests.support.workers import Worker

PRODUCT: LiteralString = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.product (id int PRIMARY KEY, name text, price int NOT NULL, embedding vector(64));
    INSERT INTO shop.product (id, name, price) SELECT i, 'product ' || i, i FROM generate_series(1, 20) AS i
"""
LETTERS = "SELECT item_id, class, code FROM embedq.dead_letter ORDER BY item_id"


@pytest.fixture
def shop(stack: Stack) -> Stack:
    """Twenty products, and a collection of them."""
    run(stack, PRODUCT)
    stack.create("products", "--table", "shop.product", "--content", "name")
    return stack


def run(stack: Stack, query: LiteralString) -> None:
    """As the table's owner."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute(query)


def have_vectors(stack: Stack, *but: str, of: str = "text {}") -> None:
    """Every row has its text's vector, but some that have none; nothing else of it has changed."""
    rows = stack.sql("SELECT id::text, name, price, embedding::text FROM shop.product")
    assert {item_id for item_id, *_, vector in rows if vector is None} == set(but)
    for item_id, name, price, vector in rows:
        assert (name, price) == (f"product {item_id}", int(item_id))
        if vector is not None:
            held = np.array(vector.strip("[]").split(","), dtype=np.float32)
            assert np.array_equal(held, vector_of(of.format(item_id), DIMENSIONS)), item_id


def texts(stack: Stack) -> int:
    """How many texts the API was given so far."""
    return stack.api.stats().texts


def test_vectors_come_and_go_by_key(shop: Stack) -> None:
    """Stored, touched, replaced and deleted; ids that no row has, or could have, are dead letters."""
    items = [{"id": str(n), "text": f"text {n}"} for n in range(1, 21)]
    with shop.worker(), shop.producer() as producer:
        producer.enqueue_many("products", [*items, {"id": "99", "text": "no row"}])
        shop.wait_until_done()
        have_vectors(shop)
        asked = texts(shop)
        assert asked == 20  # not the one without a row

        producer.enqueue_many("products", items[:5])
        producer.enqueue_many(
            "products", [{"id": each, "text": "no key"} for each in ("x", "007", "3000000000")]
        )
        producer.delete("products", ["7", "98", "x y"])
        shop.wait_until_done()
        have_vectors(shop, "7")
        assert texts(shop) == asked
    assert shop.sql(LETTERS) == [
        ("007", "row", "22P02"),
        ("3000000000", "row", "22P02"),
        ("99", "row", "no_row"),
        ("x", "row", "22P02"),
        ("x y", "row", "22P02"),
    ]
    ledger = "SELECT id, chunks FROM embedq.item WHERE deleted_at IS NOT NULL ORDER BY id"
    assert shop.sql(ledger) == [("7", 0), ("98", 0)]
    assert shop.sql("SELECT count(*) FROM embedq.item") == [(21,)]


def test_a_dead_letter_is_replayed_once_its_row_is_there(shop: Stack) -> None:
    """The item of a row that came later than its text."""
    with shop.worker(), shop.producer() as producer:
        producer.enqueue("products", id="21", text="text 21")
        shop.wait_until_done()
        assert shop.sql(LETTERS) == [("21", "row", "no_row")]
        run(shop, "INSERT INTO shop.product (id, name, price) VALUES (21, 'product 21', 21)")
        shop.command("dead-letters", "replay", "products")
        shop.wait_until_done()
    have_vectors(shop, *map(str, range(1, 21)))
    assert shop.sql(LETTERS) == []


@pytest.mark.parametrize("versions", ["clock", "given"])
def test_a_row_inserted_again_gets_its_vector_again(stack: Stack, versions: str) -> None:
    """Unchanged, and even of the same version: the ledger knows the text, the new row has no vector."""
    run(stack, PRODUCT)
    stack.create("products", "--table", "shop.product", "--versions", versions)
    version = {"version": 1} if versions == "given" else {}
    items = [{"id": str(n), "text": f"text {n}", **version} for n in range(1, 21)]
    with stack.worker(), stack.producer() as producer:
        producer.enqueue_many("products", items)
        stack.wait_until_done()
        run(stack, "CREATE TABLE kept AS SELECT id, name, price FROM shop.product WHERE id <= 4")
        run(stack, "DELETE FROM shop.product WHERE id <= 4")
        run(stack, "INSERT INTO shop.product (id, name, price) SELECT id, name, price FROM kept")
        asked = texts(stack)
        producer.enqueue_many("products", items)
        stack.wait_until_done()
        assert texts(stack) - asked == 4
    have_vectors(stack)
    assert stack.sql(LETTERS) == []


def test_what_the_table_refuses_dies_alone(shop: Stack) -> None:
    """By a constraint of it or by a trigger, of writes as of deletes."""
    run(
        shop,
        "ALTER TABLE shop.product ADD CHECK (price <> 3 OR embedding IS NULL);"
        "CREATE FUNCTION shop.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.price = 5 OR NEW.price = 8 AND NEW.embedding IS NULL THEN RAISE 'no'; END IF;"
        " RETURN NEW; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON shop.product FOR EACH ROW EXECUTE FUNCTION shop.refuse()",
    )
    with shop.worker(), shop.producer() as producer:
        producer.enqueue_many("products", [{"id": str(n), "text": f"text {n}"} for n in range(1, 21)])
        shop.wait_until_done()
        producer.delete("products", ["8", "9"])
        shop.wait_until_done()
    have_vectors(shop, "3", "5", "9")
    assert shop.sql(LETTERS) == [("3", "row", "23514"), ("5", "row", "P0001"), ("8", "row", "P0001")]


def test_a_worker_has_the_rights_on_its_columns(stack: Stack) -> None:
    """It needs no more than the key and the vectors, and gets no more."""
    run(stack, PRODUCT)
    with role(stack.database_url, "worker") as url:
        with psycopg.connect(stack.database_url, autocommit=True) as owner:
            owner.execute("SELECT embedq.grant_worker(%s::regrole)", (name_in(url),))
        stack.create("products", "--table", "shop.product", "--content", "name")
        with (
            Worker({**stack.environment, "EMBEDQ_DATABASE_URL": url}) as worker,
            stack.producer() as producer,
        ):
            for _ in range(2):
                producer.enqueue_many("products", [{"id": str(n), "text": f"text {n}"} for n in range(1, 21)])
                stack.wait_until_done()
            producer.delete("products", ["20"])
            stack.wait_until_done()
            assert "rights are missing" not in worker.output
        with psycopg.connect(url, autocommit=True) as theirs:
            refused: tuple[LiteralString, ...] = (
                "SELECT name FROM shop.product",
                "UPDATE shop.product SET price = 0",
                "UPDATE shop.product SET id = id + 100",
                "DELETE FROM shop.product",
                "INSERT INTO shop.product (id, price) VALUES (0, 0)",
                "TRUNCATE shop.product",
            )
            for query in refused:
                with pytest.raises(errors.InsufficientPrivilege):
                    theirs.execute(query)
    have_vectors(stack, "20")


def test_a_table_without_rights_holds_up_nobody(stack: Stack) -> None:
    """Other collections and queries go on; what waits is written once the right is there."""
    run(stack, PRODUCT)
    stack.create("docs")
    with role(stack.database_url, "worker") as url, psycopg.connect(stack.database_url) as owner:
        owner.autocommit = True
        name = sql.Identifier(name_in(url))
        owner.execute("SELECT embedq.grant_worker(%s::regrole)", (name_in(url),))
        stack.create("products", "--table", "shop.product")
        owner.execute(sql.SQL("REVOKE UPDATE (embedding) ON shop.product FROM {}").format(name))
        with (
            Worker({**stack.environment, "EMBEDQ_DATABASE_URL": url}) as worker,
            stack.producer() as producer,
        ):
            producer.enqueue("products", id="1", text="text 1")
            grant = f"GRANT UPDATE (embedding) ON shop.product TO {name_in(url)}"
            wait_until(lambda: grant in worker.output, 25)
            asked = texts(stack)
            producer.enqueue("docs", id="1", text="text 1")
            wait_until(lambda: len(stack.stored("docs")) == 1, 25, lambda: worker.output)
            assert len(producer.embed_query("docs", "how")) == DIMENSIONS
            assert texts(stack) - asked == 2
            owner.execute("SELECT embedq.grant_worker(%s::regrole)", (name_in(url),))
            stack.wait_until_done()
    have_vectors(stack, *map(str, range(2, 21)))
    assert stack.sql(LETTERS) == []


def test_a_locked_row_holds_up_nobody(shop: Stack) -> None:
    """The rows beside it are written meanwhile, and it is once its transaction is over."""
    items = [{"id": str(n), "text": f"text {n}"} for n in range(1, 21)]
    with shop.worker() as worker, shop.producer() as producer, psycopg.connect(shop.database_url) as other:
        other.execute("UPDATE shop.product SET price = price WHERE id = 7")
        producer.enqueue_many("products", items)
        vectors = "SELECT count(*) FROM shop.product WHERE embedding IS NOT NULL"
        wait_until(lambda: shop.sql(vectors) == [(19,)], 25)
        wait_until(lambda: "locked a row of shop.product" in worker.output, 25)
        other.rollback()
        shop.wait_until_done()
    have_vectors(shop)
    assert shop.sql(LETTERS) == []


def test_what_cannot_be_written_is_not_paid_for(shop: Stack) -> None:
    """After a column was renamed by hand: dead letters, which can be replayed once it has its name again."""
    run(shop, "ALTER TABLE shop.product RENAME embedding TO vectors")
    with shop.worker(), shop.producer() as producer:
        producer.enqueue("products", id="1", text="text 1")
        producer.delete("products", ["2"])
        shop.wait_until_done()
        assert texts(shop) == 0
        assert shop.sql(LETTERS) == [("1", "row", "column_gone"), ("2", "row", "column_gone")]


def rows(shop: Stack) -> tuple[int, float]:
    """What status says of the collection: rows with a vector, and their share of all."""
    (products,) = json.loads(shop.command("status", "--json"))["collections"]
    return products["rows"], products["coverage"]


def test_the_command_line_says_what_stays(shop: Stack) -> None:
    """Of listing, counting and dropping a collection in a table of one's own."""
    assert "vector(64) in shop.product.embedding" in shop.command("collection", "list")
    assert rows(shop) == (0, 0.0)
    with shop.worker(), shop.producer() as producer:
        producer.enqueue("products", id="1", text="text 1")
        shop.wait_until_done()
        assert "product 1" in shop.command("search", "products", "text 1")
    assert rows(shop) == (1, 1 / len(shop.sql("SELECT FROM shop.product")))
    assert "built products_embedding_idx" in shop.command("index", "build", "products")
    said = shop.command("collection", "drop", "products", stdin="y\n")
    assert "leave shop.product.embedding as it is?" in said
    assert "the vectors in shop.product.embedding stay as they are" in said
    have_vectors(shop, *map(str, range(2, 21)))


def test_column_options_need_a_table(stack: Stack) -> None:
    """An option that would mean nothing is refused."""
    said = stack.command(
        "collection", "create", "docs", "--model", "text-embedding-3-small", "--key", "sku", code=2
    )
    assert "give --table too" in said
