"""Following a table: what its triggers put into the outbox, and what applications see of them."""

from __future__ import annotations

import random
import string

import psycopg
import pytest
from psycopg import sql

from embedq_worker.catalogue import Model
from embedq_worker.store.collections import create_collection, drop_collection
from embedq_worker.store.outbox.watches import list_watches, remove_watch
from embedq_worker.store.postgres.connections import Connection
from tests.support.watching import WATCH, fill, followed, put, settle_all, wanted

STATEMENTS: dict[str, list[tuple[str, str | None]]] = {
    "UPDATE product SET price = price + 1": [],
    "UPDATE product SET name = name": [],
    "UPDATE product SET name = 'x' WHERE sku = 'none'": [],
    "UPDATE product SET name = 'x' WHERE sku IN ('a', 'b')": [("a", "x1"), ("b", "x2")],
    "UPDATE product SET lang = 'fr' WHERE sku = 'a'": [("a", "A1")],
    "UPDATE product SET name = '', about = U&' \\3000' WHERE sku = 'a'": [("a", None)],
    "UPDATE product SET name = NULL WHERE sku = 'a'": [("a", None)],
    "UPDATE product SET name = NULL, lang = 'fr' WHERE sku = 'z'": [],
    "UPDATE product SET name = 'Z' WHERE sku = 'z'": [("z", "Z26")],
    "UPDATE product SET sku = 'd' WHERE sku = 'a'": [("a", None), ("d", "A1")],
    "UPDATE product SET sku = translate(sku, 'ab', 'ba')": [("a", "B2"), ("b", "A1")],
    "UPDATE product SET sku = chr(ascii(sku) + 1) WHERE sku < 'z'": [
        ("a", None),
        ("b", "A1"),
        ("c", "B2"),
        ("d", "C3"),
    ],
    "DELETE FROM product WHERE sku < 'c'": [("a", None), ("b", None)],
    "INSERT INTO product VALUES ('d', 'D', '4'), ('e', NULL, 'e')": [("d", "D4")],
    "INSERT INTO product VALUES ('a', 'X', '9'), ('d', 'D', '4') ON CONFLICT (sku) DO NOTHING": [("d", "D4")],
    "INSERT INTO product VALUES ('a', 'X', '9'), ('b', 'B', '9'), ('d', 'D', '4') "
    "ON CONFLICT (sku) DO UPDATE SET name = excluded.name": [("a", "X1"), ("d", "D4")],
    "MERGE INTO product USING (VALUES ('a'), ('b'), ('d')) AS given (key) ON sku = key "
    "WHEN MATCHED AND key = 'a' THEN DELETE WHEN MATCHED THEN UPDATE SET name = 'M' "
    "WHEN NOT MATCHED THEN INSERT VALUES (key, 'N', 'n')": [
        ("a", None),
        ("b", "M2"),
        ("d", "Nn"),
    ],
    "WITH gone AS (DELETE FROM product WHERE sku = 'a' RETURNING *) UPDATE product SET name = 'after' "
    "FROM gone WHERE product.sku = 'b'": [("a", None), ("b", "after2")],
    "TRUNCATE product": [("a", None), ("b", None), ("c", None)],
}
"""What each puts: the ids that are other than before, with their texts; none for a delete."""


def state(connection: Connection) -> str:
    """How the watch stands."""
    (watch,) = list_watches(connection)
    return watch.state


def test_what_statements_put(watched: Connection) -> None:
    """No needless row, and no row too few."""
    found = {}
    for statement in STATEMENTS:
        with watched.transaction(force_rollback=True):
            watched.execute("ALTER TABLE product DROP CONSTRAINT product_sku_key")
            kind = "" if "ON CONFLICT" in statement else "DEFERRABLE"
            watched.execute(sql.SQL("ALTER TABLE product ADD UNIQUE (sku) {}").format(sql.SQL(kind)))
            watched.execute(statement.encode())
            found[statement] = put(watched)
            assert followed(watched) == wanted(watched), statement

    assert found == STATEMENTS


def test_copy_and_many_rows(watched: Connection) -> None:
    """Of a large statement every row comes, also where its rows are put in several goes."""
    with watched.cursor() as cursor, cursor.copy("COPY product (sku, name, about) FROM STDIN") as copy:
        for number in range(250):
            copy.write_row((f"k{number}", "copied ", str(number)))

    assert len(put(watched)) == 250
    watched.execute("UPDATE product SET about = about || '!' WHERE sku LIKE 'k%'")
    assert len(put(watched)) == 500
    assert followed(watched) == wanted(watched)


def test_versions_rise_within_a_transaction(watched: Connection) -> None:
    """The last statement wins; what was rolled back, to a savepoint or wholly, was never put."""
    with watched.transaction():
        for text in ("one", "two", "three"):
            watched.execute("UPDATE product SET name = %s WHERE sku = 'a'", [text])
        with watched.transaction(force_rollback=True):
            watched.execute("UPDATE product SET name = 'never'")
        watched.execute("DELETE FROM product WHERE sku = 'b'")
        watched.execute("INSERT INTO product VALUES ('b', 'back', '')")
    with watched.transaction(force_rollback=True):
        watched.execute("DELETE FROM product")

    assert put(watched) == [("a", "one1"), ("a", "two1"), ("a", "three1"), ("b", None), ("b", "back")]
    assert followed(watched) == wanted(watched)


def test_a_version_is_above_what_is_known(watched: Connection) -> None:
    """Also where the ledger or the outbox is ahead of the clock."""
    watched.execute("UPDATE embedq.item SET version = 9e17 WHERE id = 'a'")
    watched.execute("UPDATE product SET name = 'one' WHERE sku = 'a'")
    watched.execute("UPDATE product SET name = 'two' WHERE sku = 'a'")

    versions = [row[0] for row in watched.execute("SELECT version FROM embedq.outbox ORDER BY number")]
    assert versions == [900000000000000001, 900000000000000002]


def test_watching_again_begins_anew(watched: Connection) -> None:
    """With other expressions: every row comes once more, above all that is known; what is blank goes."""
    watched.execute("UPDATE embedq.item SET version = 9e17 WHERE id = 'a'")
    watched.execute("UPDATE stored SET version = 9e17 WHERE id = 'a'")
    watched.execute(
        "SELECT embedq.watch('product', id => 'sku', collection => 'products', "
        "text => 'CASE sku WHEN ''b'' THEN '''' ELSE lower(name) END')"
    )
    assert state(watched) == "filling"
    while fill(watched, 2):
        pass

    assert put(watched) == [("a", "a"), ("b", None), ("c", "c")]
    assert followed(watched) == wanted(watched)
    assert state(watched) == "following"


@pytest.mark.parametrize("change", ["RENAME name TO title", "DROP about"])
def test_a_changed_column_does_not_stop_the_application(watched: Connection, change: str) -> None:
    """The collection is behind, and says so, until the table is watched with what is there now."""
    watched.execute(f"ALTER TABLE product {change}".encode())
    for _ in range(2):
        watched.execute("UPDATE product SET lang = 'it'")

    assert state(watched) == "behind"
    assert watched.execute("SELECT count(*) FROM embedq.missed_change").fetchall() == [(1,)]
    watched.execute("SELECT embedq.watch('product', id => 'sku', text => 'lang', collection => 'products')")
    while fill(watched, 100):
        pass
    assert state(watched) == "following"
    assert followed(watched) == wanted(watched)


def test_a_row_without_a_text_that_can_be_made(watched: Connection) -> None:
    """A cast that fails for one row: neither the application nor the backfill stops for it."""
    expression = "(json_build_object('about', name)::jsonb ->> 'about') || (100 / price)"
    watched.execute("UPDATE product SET price = 10, name = 'ok'")
    watched.execute("UPDATE product SET price = 0 WHERE sku = 'b'")
    watched.execute(
        "SELECT embedq.watch('product', id => 'sku', text => %s, collection => 'products')", [expression]
    )
    settle_all(watched)
    while fill(watched, 100):
        pass

    assert [row[0] for row in put(watched)] == ["a", "c", "z"]
    watch = list_watches(watched)[0]
    assert (watch.state, watch.missed_code, watch.filled_rows) == ("behind", "22012", 4)


def test_renamed_tables_are_followed(watched: Connection) -> None:
    """The table may have another name, or be in another schema."""
    watched.execute("CREATE SCHEMA shop")
    watched.execute("ALTER TABLE product SET SCHEMA shop")
    watched.execute("ALTER TABLE shop.product RENAME TO article")
    watched.execute("UPDATE shop.article SET name = 'x' WHERE sku = 'a'")

    assert put(watched) == [("a", "x1")]
    assert list_watches(watched)[0].source == "shop.article"


def test_serializable_transactions_do_not_refuse_each_other(watched: Connection, database_url: str) -> None:
    """A watch makes no two of them depend on each other."""
    begin = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"
    insert = "INSERT INTO product VALUES (%s, 'x', 'y')"
    with watched.transaction(), psycopg.connect(database_url) as other:
        for connection, sku in ((watched, "d"), (other, "e")):
            connection.execute(begin)
            connection.execute(insert, [sku])
        other.commit()
        watched.execute(insert, ["f"])

    assert put(watched) == [("d", "xy"), ("e", "xy"), ("f", "xy")]


def test_a_key_that_no_id_may_be(watched: Connection) -> None:
    """As long as the table's own index takes it: the application goes on, and so does the backfill."""
    key = "".join(random.Random(0).choices(string.ascii_letters + string.digits, k=2690))
    watched.execute("INSERT INTO product VALUES (%s, 'x', 'y')", [key])
    watched.execute(WATCH)
    assert fill(watched, 100)

    assert {key for key, _ in put(watched)} == {key[:600], "a", "b", "c"}


def test_a_key_that_became_null(watched: Connection) -> None:
    """The row has no id: the application goes on, what else it changed is put, the collection is behind."""
    watched.execute("ALTER TABLE product ALTER sku DROP NOT NULL")
    watched.execute("INSERT INTO product VALUES ('d', 'D', '4'), (NULL, 'x', 'y')")
    watched.execute("UPDATE product SET name = 'z' WHERE sku IS NULL OR sku = 'd'")

    assert put(watched) == [("d", "D4"), ("d", "z4")]
    assert (state(watched), list_watches(watched)[0].missed_code) == ("behind", "22004")


def test_no_version_is_above_the_highest(watched: Connection) -> None:
    """Whoever sent it: the application goes on."""
    watched.execute("UPDATE embedq.item SET version = 9223372036854775807 WHERE id = 'a'")
    for text in ("one", "two"):
        watched.execute("UPDATE product SET name = %s WHERE sku = 'a'", [text])

    versions = watched.execute("SELECT DISTINCT version FROM embedq.outbox").fetchall()
    assert (versions, state(watched)) == ([(9223372036854775807,)], "following")


def test_names_that_need_quotes(watched: Connection) -> None:
    """Of tables and columns: with signs that format strings, or SQL, would take for their own."""
    create_collection(watched, name="odd", model=Model(id="small", dimensions=3))
    watched.execute('CREATE TABLE "100%I ""of"" $1" ("Key" integer PRIMARY KEY, "%s" text)')
    table = """'"100%I ""of"" $1"'"""
    watched.execute(f"SELECT embedq.watch({table}, 'Key', '\"%s\"', 'odd')".encode())
    watched.execute('INSERT INTO "100%I ""of"" $1" VALUES (1, \'x\')')

    assert put(watched) == [("1", "x")]


def test_what_is_dropped(watched: Connection) -> None:
    """The collection: its watch goes with it. The watch: triggers and functions go. The table: it is said."""
    watched.execute("UPDATE product SET name = 'x'")
    drop_collection(watched, "products")
    watched.execute("DELETE FROM embedq.outbox")
    watched.execute("UPDATE product SET name = 'y'")
    assert (put(watched), list_watches(watched)) == ([], [])

    create_collection(watched, name="products", model=Model(id="small", dimensions=3))
    watched.execute(WATCH)
    watched.execute("ALTER TABLE product DISABLE TRIGGER USER")
    assert state(watched) == "triggers off"
    remove_watch(watched, "products")
    functions = watched.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'embedq'::regnamespace")
    assert [name for (name,) in functions if name.startswith("products_")] == []
    assert watched.execute("SELECT FROM embedq.worker_right WHERE object LIKE '%%fill%%'").fetchall() == []

    watched.execute(WATCH)
    watched.execute("DROP TABLE product")
    assert state(watched) == "source dropped"
    watched.execute("CREATE TABLE product (sku text PRIMARY KEY, name text, about text, lang text)")
    watched.execute(WATCH)
    assert state(watched) == "filling"


@pytest.mark.parametrize(
    ("type_", "keys", "ids"),
    [
        ("integer", "generate_series(1, 5)", ["1", "2", "3", "4", "5"]),
        ("bigint", "generate_series(-1, 10000000000, 5000000000)", ["-1", "4999999999", "9999999999"]),
        (
            "uuid",
            "unnest('{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'::uuid[])",
            ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
        ),
        ("varchar(9)", "unnest('{é, b, A, a, \" x\"}'::text[])", [" x", "A", "a", "b", "é"]),
    ],
)
def test_types_of_ids(connection: Connection, type_: str, keys: str, ids: list[str]) -> None:
    """An id is the key as text; the backfill finds its way through keys of each type."""
    create_collection(connection, name="products", model=Model(id="small", dimensions=3))
    connection.execute(f'CREATE TABLE product ("Key" {type_} PRIMARY KEY, "Name" text)'.encode())
    connection.execute(f"INSERT INTO product SELECT key, 'n' FROM {keys} AS key".encode())  # noqa: S608  # ours
    connection.execute("SELECT embedq.watch('product', 'Key', '\"Name\" -- a comment', 'products')")
    while fill(connection, 2):
        pass

    assert [row[0] for row in put(connection)] == ids
    connection.execute("UPDATE product SET \"Name\" = 'm'")
    assert len(put(connection)) == 2 * len(ids)


def test_partitioned_tables(connection: Connection) -> None:
    """Statements on the parent are followed, also where a row moves to another partition."""
    create_collection(connection, name="products", model=Model(id="small", dimensions=3))
    connection.execute("CREATE TABLE product (sku integer PRIMARY KEY, name text) PARTITION BY RANGE (sku)")
    for number in range(3):
        low, high = 10 * number, 10 * number + 10
        connection.execute(
            f"CREATE TABLE part{number} PARTITION OF product FOR VALUES FROM ({low}) TO ({high})".encode()
        )
    connection.execute("INSERT INTO product SELECT n, 'n' || n FROM generate_series(0, 25, 5) AS n")
    connection.execute("SELECT embedq.watch('product', 'sku', 'name', 'products')")
    while fill(connection, 2):
        pass
    assert [row[0] for row in put(connection)] == ["0", "10", "15", "20", "25", "5"]
    connection.execute("DELETE FROM embedq.outbox")
    connection.execute("UPDATE product SET sku = 11 WHERE sku = 0")
    connection.execute("DELETE FROM product WHERE sku = 25")

    assert put(connection) == [("0", None), ("11", "n0"), ("25", None)]


REFUSED = {
    "'nothing', 'sku', 'name', 'products'": 'relation "nothing" does not exist',
    "'product', 'sku', 'nome', 'products'": "the text cannot be made of a row of public.product: column",
    "'product', 'sku', 'price', 'products'": "the text is of type integer",
    "'product', 'sku', 'name, about', 'products'": "the text is of type record",
    "'product', 'sku', 'name) AS one, (about', 'products'": "public.product: syntax error",
    "'product', 'sku', 'count(*)::text', 'products'": "aggregate functions are not allowed",
    "'product', 'sku', 'unnest(ARRAY[name])', 'products'": "set-returning functions are not allowed",
    "'product', 'sku', 'name', 'products', 'lang'": "the metadata is of type text",
    "'product', 'name', 'name', 'products'": "column name of public.product cannot hold ids: it can be null",
    "'product', 'price', 'name', 'products'": "it has no unique index of its own",
    "'product', 'none', 'name', 'products'": "it does not exist",
    "'product', 'sku', 'name', 'unknown'": "unknown",
    "'product', 'sku', 'name', 'given'": "create it with versions = clock",
    "'other', 'sku', 'name', 'products'": "follows public.product already",
    "'shown', 'sku', 'name', 'products'": "it is no table",
    "'part', 'sku', 'name', 'products'": "it is a partition",
    "'passing', 'sku', 'name', 'products'": "it is temporary",
}


def test_what_cannot_be_watched(watched: Connection) -> None:
    """Each is refused with its reason, and nothing is changed."""
    create_collection(watched, name="given", model=Model(id="small", dimensions=3), versions="given")
    watched.execute("CREATE TABLE other (sku text PRIMARY KEY, name text) PARTITION BY LIST (sku)")
    watched.execute("CREATE TABLE part PARTITION OF other DEFAULT")
    watched.execute("CREATE TEMPORARY TABLE passing (sku text PRIMARY KEY, name text)")
    watched.execute("CREATE VIEW shown AS SELECT * FROM product")
    before = list_watches(watched)
    said = {}
    for arguments in REFUSED:
        with pytest.raises(psycopg.Error) as refused:
            watched.execute(f"SELECT embedq.watch({arguments})".encode())
        said[arguments] = str(refused.value)

    assert [each for each in REFUSED if REFUSED[each] not in said[each]] == [], said
    assert list_watches(watched) == before
