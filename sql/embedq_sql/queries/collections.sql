-- The registry of collections.

-- name: collections
-- Every collection, by name, with the other model of one that moves.
SELECT id, name, table_schema, table_name, model, dimensions, vector_type, versions, generation,
       is_managed, key_column, key_type, vector_column, content_column, metadata_column,
       text_search, quantization, on_too_long, chunk_tokens, chunk_overlap,
       (SELECT to_jsonb(shadow) FROM embedq.shadow WHERE shadow.collection_id = collection.id) AS shadow
FROM embedq.collection
ORDER BY name COLLATE "C";

-- name: collection
-- One collection by name.
SELECT id, name, table_schema, table_name, model, dimensions, vector_type, versions, generation,
       is_managed, key_column, key_type, vector_column, content_column, metadata_column,
       text_search, quantization, on_too_long, chunk_tokens, chunk_overlap,
       (SELECT to_jsonb(shadow) FROM embedq.shadow WHERE shadow.collection_id = collection.id) AS shadow
FROM embedq.collection
WHERE name = %(name)s;

-- name: lock_collections
-- One creates or drops at a time, until the transaction ends; readers and writers of items are not held up.
LOCK TABLE embedq.collection IN SHARE ROW EXCLUSIVE MODE;

-- name: limit_lock_wait
-- For this transaction: rather fail than queue behind a long query, with every later query queued behind us.
SET LOCAL lock_timeout = '10s';

-- name: register_collection
-- A new collection; returns its id and generation.
INSERT INTO embedq.collection
    (name, table_schema, table_name, model, dimensions, vector_type, versions,
     is_managed, key_column, key_type, vector_column, content_column, metadata_column,
     text_search, quantization, on_too_long, chunk_tokens, chunk_overlap)
VALUES
    (%(name)s, %(table_schema)s, %(table_name)s, %(model)s, %(dimensions)s, %(vector_type)s, %(versions)s,
     %(is_managed)s, %(key_column)s, %(key_type)s, %(vector_column)s, %(content_column)s, %(metadata_column)s,
     %(text_search)s, %(quantization)s, %(on_too_long)s, %(chunk_tokens)s, %(chunk_overlap)s)
RETURNING id, generation;

-- name: has_schema
-- Whether a schema exists.
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s);

-- name: relation_kind
-- What stands at a name: r table, v view, i index and so on (pg_class.relkind); no row if nothing does.
SELECT relkind::text
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %(schema)s AND relname = %(name)s;

-- name: forget_items
-- A collection's whole ledger, tombstones included.
DELETE FROM embedq.item WHERE collection_id = %(collection_id)s;

-- name: count_outbox
-- The items of a collection that were enqueued in SQL and are not settled, sent or not.
SELECT count(*) FROM embedq.outbox WHERE collection_id = %(collection_id)s;

-- name: forget_outbox
-- Whatever was enqueued for a collection in SQL.
DELETE FROM embedq.outbox WHERE collection_id = %(collection_id)s;

-- name: forget_collection
-- A collection's entry in the registry.
DELETE FROM embedq.collection WHERE id = %(collection_id)s;

-- name: text_search_named
-- A configuration of full text search by a name that may have a schema; returned as it is understood from any search path.
-- An error where there is none.
SELECT CASE nspname WHEN 'pg_catalog' THEN quote_ident(cfgname) ELSE format('%%I.%%I', nspname, cfgname) END
FROM pg_ts_config JOIN pg_namespace ON pg_namespace.oid = cfgnamespace
WHERE pg_ts_config.oid = %(name)s::regconfig;
