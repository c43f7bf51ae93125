"""A collection in somebody's own table: what the table must be like, which rights it takes, what is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

import msgspec
import pytest
from psycopg import errors

from embedq_worker.catalogue import DimensionRange, Model
from embedq_worker.errors import BadDimensions, CollectionConflict, StoreError
from embedq_worker.store import row_counts
from embedq_worker.store.collection import Collection
from embedq_worker.store.collections import create_collection, drop_collection, list_collections
from embedq_worker.store.indexes.building import build_index, drop_index
from embedq_worker.store.migrations import apply_migrations
from embedq_worker.store.own_table.table import OwnNames, find_own_table
from embedq_worker.store.postgres.connections import Connection, connect
from embedq_worker.store.row_counts import count_rows
from tests.support.roles import name_in, role

MODEL = Model(id="small", dimensions=8, allowed_dimensions=DimensionRange(min=1, max=5000))
PRODUCT = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.product (
        sku text PRIMARY KEY, name varchar(20) UNIQUE NOT NULL, number int UNIQUE,
        price numeric UNIQUE NOT NULL, attributes jsonb,
        vec vector(3), half halfvec(4), plain vector, required vector(3) NOT NULL DEFAULT '[0,0,1]',
        made vector(3) GENERATED ALWAYS AS ('[0,0,1]'::vector(3)) STORED
    );
    INSERT INTO shop.product (sku, name, price, attributes, vec) VALUES
        ('a', 'one', 1, '{"lang": "en"}', '[1,0,0]'),
        ('b', 'two', 2, NULL, '[0,1,0]'),
        ('c', 'three', 3, NULL, NULL)
"""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A connection to a migrated database with a shop."""
    with connect(database_url) as opened:
        opened.execute(PRODUCT)
        yield opened


def names(**given: Any) -> OwnNames:
    """The shop's products by their key and vector."""
    return OwnNames(**{"table": "shop.product", "key": "sku", "vector": "vec", **given})


def create(connection: Connection, name: str = "products", **given: Any) -> Collection:
    """A collection in the shop's table."""
    own = find_own_table(connection, names(**given))
    return create_collection(connection, name=name, model=MODEL, own=own, keep_vectors=True)


def test_the_table_is_looked_up_in_the_catalogue(connection: Connection) -> None:
    """What the registry says of it comes from there; the size of vectors is the column's."""
    made = create(connection, content="name", metadata="attributes")

    assert made == list_collections(connection)[0]
    assert (made.table_schema, made.table_name, made.is_managed) == ("shop", "product", False)
    assert (made.key_column, made.key_type) == ("sku", "text")
    assert (made.vector_column, made.vector_type, made.dimensions) == ("vec", "vector", 3)
    assert (made.content_column, made.metadata_column) == ("name", "attributes")
    assert create(connection, content="name", metadata="attributes") == made


def test_functions_search_it(connection: Connection) -> None:
    """With the key as the id; a row without a vector is in no answer and not counted."""
    made = create(connection, content="name", metadata="attributes")

    found = connection.execute(
        "SELECT id, chunk, content, metadata FROM shop.products_search('[1,0,0]')"
    ).fetchall()
    assert found == [("a", 0, "one", {"lang": "en"}), ("b", 0, "two", None)]
    assert connection.execute("SELECT count(*) FROM embedq.search('products', '[1,0,0]')").fetchone() == (2,)
    assert count_rows(connection, made) == 2


def test_without_texts_and_metadata_they_are_null(connection: Connection) -> None:
    """A table that names none has its ids and distances."""
    create(connection)

    found = connection.execute(
        "SELECT id, content, metadata FROM shop.products_search('[1,0,0]', 1)"
    ).fetchall()
    assert found == [("a", None, None)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"table": "shop.nothing"}, "no table shop.nothing"),
        ({"table": "a.b.c"}, "is not a table's name"),
        ({"table": "shop."}, "is not a table's name"),
        ({"table": "product"}, "no table public.product"),
        ({"table": '"sh%op".product'}, "a name of it has a %"),
        ({"key": "SKU"}, "has no column SKU; it has sku, name, number"),
        ({"key": "number"}, "it must be NOT NULL, have a unique index for itself"),
        ({"key": "price"}, "price of shop.product is numeric; a key must be text"),
        ({"key": "attributes"}, "attributes of shop.product is jsonb"),
        ({"vector": "name"}, r"is character varying\(20\); it must be vector\(n\)"),
        ({"vector": "plain"}, r"is vector; it must be vector\(n\)"),
        ({"vector": "required"}, "must not be generated and must take null"),
        ({"vector": "made"}, "must not be generated"),
        ({"metadata": "name"}, "name of shop.product is not jsonb"),
        ({"content": "text"}, "has no column text"),
    ],
)
def test_what_cannot_be_used_is_refused(connection: Connection, given: dict[str, str], said: str) -> None:
    """With words that say what to change."""
    with pytest.raises(CollectionConflict, match=said):
        create(connection, **given)
    assert list_collections(connection) == []


PARTITIONED = """
    CREATE TABLE shop.p (sku text PRIMARY KEY, vec vector(3)) PARTITION BY HASH (sku);
    CREATE TABLE shop.p1 PARTITION OF shop.p FOR VALUES WITH (MODULUS 1, REMAINDER 0)
"""
KEY_IN_PART = "CREATE TABLE shop.t (sku text NOT NULL, n int, vec vector(3), UNIQUE (sku, n))"
KEY_OF_SOME = """
    CREATE TABLE shop.t (sku text NOT NULL, vec vector(3));
    CREATE UNIQUE INDEX ON shop.t (sku) WHERE sku <> ''
"""
KEY_IN_LOWER_CASE = """
    CREATE TABLE shop.t (sku text NOT NULL, vec vector(3));
    CREATE UNIQUE INDEX ON shop.t (lower(sku))
"""
# As a collation of ICU can be, which this server is built without.
LOOSE_KEY = """
    CREATE COLLATION shop.loose (provider = libc, locale = 'C');
    CREATE TABLE shop.t (sku text COLLATE shop.loose PRIMARY KEY, vec vector(3));
    SET allow_system_table_mods = on;
    UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose'
"""


@pytest.mark.parametrize(
    ("prepare", "table", "said"),
    [
        ("CREATE VIEW shop.v AS SELECT * FROM shop.product", "shop.v", "is no table"),
        (PARTITIONED, "shop.p1", "is a partition"),
        ("CREATE TABLE shop.more () INHERITS (shop.product)", "shop.product", "that inherit from it"),
        (KEY_IN_PART, "shop.t", "unique index for itself"),
        (KEY_OF_SOME, "shop.t", "unique index for itself"),
        (KEY_IN_LOWER_CASE, "shop.t", "unique index for itself"),
        (LOOSE_KEY, "shop.t", "no collation for which different texts are equal"),
    ],
)
def test_tables_of_other_kinds_are_refused(
    connection: Connection, prepare: LiteralString, table: str, said: str
) -> None:
    """What has no rows of its own, and where one id could mean several rows."""
    connection.execute(prepare)
    with pytest.raises(CollectionConflict, match=said):
        create(connection, table=table)


def test_other_vectors_than_the_column_s_are_refused(connection: Connection) -> None:
    """Size and type are the column's, and must be what the model makes."""
    own = find_own_table(connection, names())
    with pytest.raises(CollectionConflict, match=r"vec of shop.product is vector\(3\), not vector\(4\)"):
        create_collection(connection, name="products", model=MODEL, own=own, dimensions=4)
    with pytest.raises(CollectionConflict, match=r"is vector\(3\), not halfvec\(3\)"):
        create_collection(connection, name="products", model=MODEL, own=own, vector_type="halfvec")
    with pytest.raises(BadDimensions):
        create_collection(connection, name="products", model=Model(id="fixed", dimensions=8), own=own)


def test_vectors_of_whatever_model_are_refused(connection: Connection) -> None:
    """With their count and the statement that clears them; a column that is cleared is taken."""
    own = find_own_table(connection, names())
    with pytest.raises(CollectionConflict, match="2 rows have a vector in shop") as caught:
        create_collection(connection, name="products", model=MODEL, own=own)
    _, _, statement = str(caught.value).partition("clear them (")
    connection.execute(statement.partition(")")[0].encode())
    made = create_collection(connection, name="products", model=MODEL, own=own)
    connection.execute("UPDATE shop.product SET vec = '[1,0,0]'")
    assert create_collection(connection, name="products", model=MODEL, own=own) == made


def test_vectors_are_counted_however_many_rows(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics that are missing or old say nothing of them."""
    monkeypatch.setattr(row_counts, "COUNTED_ROWS", 1)
    own = find_own_table(connection, names(vector="half"))
    create_collection(connection, name="products", model=MODEL, own=own)
    drop_collection(connection, "products")

    connection.execute("ANALYZE shop.product")
    connection.execute("UPDATE shop.product SET half = '[1,0,0,0]'")

    with pytest.raises(CollectionConflict, match="3 rows have a vector in shop"):
        create_collection(connection, name="products", model=MODEL, own=own)


def test_a_renamed_column_stops_nothing_else(connection: Connection, database_url: str) -> None:
    """Of migrating, counting, creating another collection and granting; what is not granted is said."""
    made = create(connection)
    connection.execute("ALTER TABLE shop.product RENAME vec TO vectors")
    said: list[str] = []
    connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    with role(database_url, "worker") as url:
        connection.execute("SELECT embedq.grant_worker(%s::regrole)", (name_in(url),))
        assert "it has no column vec any more; rename it back" in said[0]
        assert apply_migrations(connection) == []
        assert count_rows(connection, made) is None
        create_collection(connection, name="docs", model=MODEL)


def test_texts_are_not_chunked(connection: Connection) -> None:
    """There is one row a key, and nobody makes others."""
    own = find_own_table(connection, names())
    chunking = msgspec.structs.replace(create(connection), on_too_long="chunk")
    with pytest.raises(CollectionConflict, match="has one row a key; choose error or truncate"):
        own.lend_to(chunking)


def test_two_collections_do_not_share_a_column(connection: Connection) -> None:
    """Another column of the same table is another matter, and so are other settings of the same name."""
    create(connection)
    with pytest.raises(
        CollectionConflict, match=r"vec of shop\.product is written by collection 'products' already"
    ):
        create(connection, "again")
    with pytest.raises(CollectionConflict, match="vector_column 'vec', not 'half'"):
        create(connection, vector="half")
    assert create(connection, "halves", vector="half").vector_type == "halfvec"
    with pytest.raises(errors.UniqueViolation):
        connection.execute("UPDATE embedq.collection SET vector_column = 'vec'")


def test_a_partitioned_table_is_one(connection: Connection) -> None:
    """Whose key is unique over all partitions."""
    connection.execute(PARTITIONED)
    connection.execute("INSERT INTO shop.p VALUES ('1', '[1,0,0]')")
    made = create(connection, table="shop.p")

    assert count_rows(connection, made) == 1
    assert connection.execute("SELECT id FROM shop.products_search('[1,0,0]')").fetchone() == ("1",)


def test_missing_rights_are_named(connection: Connection, database_url: str) -> None:
    """All of them, as the statements that give them; with these it works."""
    with role(database_url, "seller") as url, connect(url) as seller:
        name = name_in(url)
        with pytest.raises(CollectionConflict) as caught:
            find_own_table(seller, names(content="name"))
        _, _, statements = str(caught.value).partition("let the owners run: ")
        assert statements == (
            f'GRANT USAGE, CREATE ON SCHEMA "shop" TO {name}; '
            f'GRANT SELECT ("sku", "vec", "name") ON "shop"."product" TO {name}; '
            f'GRANT UPDATE ("vec") ON "shop"."product" TO {name}'
        )
        connection.execute(statements.encode())
        assert find_own_table(seller, names(content="name")).table_name == "product"


def test_drop_leaves_the_table_alone(connection: Connection) -> None:
    """Its rows, vectors and index stay; functions, ledger and entry go, and the column is free again."""
    made = create(connection)
    assert build_index(connection, made)
    connection.execute(
        "INSERT INTO embedq.item (collection_id, id, version, content_hash, chunks)"
        " VALUES (%s, 'a', 1, '', 1)",
        (made.id,),
    )

    assert drop_collection(connection, "products") == made

    assert connection.execute("SELECT count(vec) FROM shop.product").fetchone() == (2,)
    assert connection.execute("SELECT count(*) FROM embedq.item").fetchone() == (0,)
    assert connection.execute(
        "SELECT count(*) FROM pg_proc WHERE proname LIKE 'products\\_%%'"
    ).fetchone() == (0,)
    again = create(connection)
    assert not build_index(connection, again)
    assert drop_index(connection, again)


def test_an_index_of_somebody_else_is_left_alone(connection: Connection) -> None:
    """Where its name is that of the collection's: refused at creation, and never dropped later."""
    connection.execute("CREATE INDEX products_embedding_idx ON shop.product (price)")
    with pytest.raises(
        CollectionConflict, match="products_embedding_idx, and something else in schema 'shop' is"
    ):
        create(connection)
    connection.execute("DROP INDEX shop.products_embedding_idx")
    made = create(connection)
    connection.execute("CREATE INDEX products_embedding_idx ON shop.product (price)")

    with pytest.raises(StoreError, match="products_embedding_idx is taken by"):
        build_index(connection, made)
    assert not drop_index(connection, made)
    assert connection.execute("SELECT to_regclass('shop.products_embedding_idx')::text").fetchone() == (
        "shop.products_embedding_idx",
    )


def test_the_index_serves_the_search(connection: Connection) -> None:
    """On the own table's column, nulls and all."""
    made = create(connection, vector="half")
    connection.execute(
        "INSERT INTO shop.product (sku, name, price, half)"
        " SELECT 'n' || i, 'n' || i, 9 + i, ARRAY[i, 1, 0, 0]::real[]::halfvec"
        " FROM generate_series(1, 2000) AS i"
    )
    assert build_index(connection, made)
    plan = connection.execute("EXPLAIN SELECT id FROM shop.products_search('[1,1,0,0]', 5)").fetchall()
    assert any("Index Scan using products_embedding_idx" in line for (line,) in plan)


def test_columns_that_functions_read_are_held(connection: Connection) -> None:
    """Postgres refuses to drop one; dropped by force, it keeps no other collection from being migrated."""
    create(connection)
    create_collection(connection, name="docs", model=MODEL)
    with pytest.raises(errors.DependentObjectsStillExist):
        connection.execute("ALTER TABLE shop.product DROP COLUMN vec")
    connection.execute("ALTER TABLE shop.product DROP COLUMN vec CASCADE; DROP FUNCTION docs_search")

    assert apply_migrations(connection) == []

    assert connection.execute("SELECT to_regproc('docs_search') IS NOT NULL").fetchone() == (True,)


TRIGGERS = """
    CREATE FUNCTION shop.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER stamp BEFORE UPDATE ON shop.product EXECUTE FUNCTION shop.nothing();
    CREATE TRIGGER ours BEFORE UPDATE OF vec ON shop.product EXECUTE FUNCTION shop.nothing();
    CREATE TRIGGER other BEFORE UPDATE OF price ON shop.product EXECUTE FUNCTION shop.nothing();
    CREATE TRIGGER new BEFORE INSERT ON shop.product EXECUTE FUNCTION shop.nothing();
    ALTER TABLE shop.product ENABLE ROW LEVEL SECURITY
"""


def test_notes_name_triggers_and_policies(connection: Connection) -> None:
    """What happens with each write, and what a worker must be able to see."""
    assert find_own_table(connection, names()).notes == ()
    connection.execute(TRIGGERS)

    triggers, policies = find_own_table(connection, names()).notes

    assert "fires ours, stamp;" in triggers
    assert "row-level security" in policies
