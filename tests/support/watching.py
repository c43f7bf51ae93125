"""A watched table in tests: what its collection will hold once the outbox is settled, and what it should."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg

from embedq_worker.catalogue import Model
from embedq_worker.store.collections import create_collection
from embedq_worker.store.postgres.connections import Connection

Rows = dict[str, tuple[str, Any]]
"""Text and metadata by id."""
_TABLE = """
    CREATE TABLE product (
        sku text UNIQUE DEFERRABLE NOT NULL, name text, about text, lang text,
        price integer NOT NULL DEFAULT 0
    )
"""
WATCH: LiteralString = """
    SELECT embedq.watch('product', id => 'sku', text => 'name || about',
                        metadata => 'jsonb_build_object(''lang'', lang)', collection => 'products')
"""
_LATEST = """
    SELECT DISTINCT ON (id) id, text, metadata
    FROM (SELECT id, version, text, metadata FROM embedq.outbox UNION ALL SELECT * FROM stored)
    ORDER BY id, version DESC
"""
_TIES = """
    SELECT id FROM embedq.outbox GROUP BY id, version HAVING count(DISTINCT coalesce(text, '')) > 1
"""
_SETTLE = """
    WITH settled AS (
        DELETE FROM embedq.outbox
        WHERE number IN (SELECT number FROM embedq.outbox FOR UPDATE SKIP LOCKED LIMIT 50)
        RETURNING id, version, text, metadata, collection_id
    ), latest AS (
        SELECT DISTINCT ON (id) * FROM settled ORDER BY id, version DESC
    ), ledger AS (
        INSERT INTO embedq.item AS held (collection_id, id, version, content_hash, chunks, deleted_at)
        SELECT collection_id, id, version, '', 1, CASE WHEN text IS NULL THEN now() END
        FROM latest ORDER BY id
        ON CONFLICT (collection_id, id) DO UPDATE
        SET version = EXCLUDED.version, deleted_at = EXCLUDED.deleted_at
        WHERE held.version < EXCLUDED.version
    )
    INSERT INTO stored AS held SELECT id, version, text, metadata FROM latest ORDER BY id
    ON CONFLICT (id) DO UPDATE
    SET version = EXCLUDED.version, text = EXCLUDED.text, metadata = EXCLUDED.metadata
    WHERE held.version < EXCLUDED.version
"""


def make_watched(connection: Connection, watch: LiteralString = WATCH) -> None:
    """A table ``product`` and a collection ``products`` that follows it."""
    create_collection(connection, name="products", model=Model(id="small", dimensions=3))
    connection.execute(_TABLE)
    connection.execute(
        'CREATE TABLE stored (id text COLLATE "C" PRIMARY KEY, version bigint, text text, metadata jsonb)'
    )
    connection.execute(watch)


def settle(connection: psycopg.Connection[Any]) -> None:
    """As a worker's writer does: the newest version is stored, and what it settles leaves the outbox."""
    connection.execute(_SETTLE)


def fill(connection: psycopg.Connection[Any], rows: int) -> int | None:
    """One step of the backfill, as a worker does it."""
    return connection.execute("SELECT embedq.products_fill(%s)", [rows]).fetchall()[0][0]  # type: ignore[no-any-return]  # a driver's row


def followed(connection: psycopg.Connection[Any]) -> Rows:
    """What the collection holds once all is settled. No version may stand for two texts."""
    assert connection.execute(_TIES).fetchall() == []
    return {id_: (text, metadata) for id_, text, metadata in connection.execute(_LATEST) if text is not None}


def wanted(connection: psycopg.Connection[Any]) -> Rows:
    """What the table says."""
    (query,) = connection.execute("SELECT embedq.watched_query('products')").fetchall()[0]
    rows = connection.execute(query).fetchall()
    return {id_: (text, metadata) for id_, text, metadata in rows if text and not text.isspace()}


def put(connection: psycopg.Connection[Any]) -> list[tuple[str, str | None]]:
    """The ids and texts in the outbox, by id, an id's in the order of their versions."""
    return connection.execute("SELECT id, text FROM embedq.outbox ORDER BY id, version").fetchall()


def settle_all(connection: psycopg.Connection[Any]) -> None:
    """Until the outbox is empty."""
    while put(connection):
        settle(connection)
