-- Vector indexes and their building.

-- name: vector_indexes
-- The HNSW and IVFFlat indexes on a table's column of vectors, whoever made them, and what they hold of a vector: null when
-- they do not serve the cosine distance. One that is not valid is being built, or was left behind by a build that failed.
SELECT held.relname AS name, pg_index.indisvalid AS valid, coalesce(held.reloptions, '{}') AS options,
       CASE
           WHEN pg_opclass.opcname IN ('vector_cosine_ops', 'halfvec_cosine_ops') AND pg_index.indexprs IS NULL THEN 'none'
           WHEN pg_opclass.opcname = 'halfvec_cosine_ops' THEN 'halfvec'
           WHEN pg_opclass.opcname = 'bit_hamming_ops' THEN 'binary'
       END AS quantization
FROM pg_index
JOIN pg_class AS held ON held.oid = pg_index.indexrelid
JOIN pg_am ON pg_am.oid = held.relam AND pg_am.amname IN ('hnsw', 'ivfflat')
JOIN pg_opclass ON pg_opclass.oid = pg_index.indclass[0]
JOIN pg_class AS indexed ON indexed.oid = pg_index.indrelid AND indexed.relname = %(table)s
JOIN pg_namespace ON pg_namespace.oid = indexed.relnamespace AND pg_namespace.nspname = %(schema)s
JOIN pg_attribute ON pg_attribute.attrelid = indexed.oid AND pg_attribute.attname = %(column)s
-- An index on an expression names no column, but depends on it.
WHERE EXISTS (
    SELECT FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND objid = held.oid
      AND refclassid = 'pg_class'::regclass AND refobjid = indexed.oid AND refobjsubid = pg_attribute.attnum
)
ORDER BY held.relname;

-- name: try_lock_index
-- One build or drop of a collection's index at a time, until the session ends or lets go. False: somebody is at it.
SELECT pg_try_advisory_lock(73058, %(collection_id)s);

-- name: unlock_index
SELECT pg_advisory_unlock(73058, %(collection_id)s);

-- name: session_setting
-- A setting for the rest of the session; returns its value as the server understood it.
SELECT set_config(%(name)s, %(value)s, false);

-- name: setting_bytes
-- A setting of memory, in bytes.
SELECT pg_size_bytes(current_setting(%(name)s));

-- name: index_progress
-- How far the build of another session is: phase, blocks done and blocks in all. No row when it is not building.
SELECT phase, blocks_done, blocks_total
FROM pg_stat_progress_create_index
WHERE pid = %(pid)s;
