-- Vector indexes and their building.

-- name: vector_indexes
-- The HNSW and IVFFlat indexes on columns of vectors, whoever made them, and what they hold of a vector: null when
-- they do not serve a collection's searches, for they have another distance, not all rows, or another expression than embedq's
-- own. One that is not valid is being built, or was left behind by a build that failed.
SELECT wanted.number, held.relname AS name, pg_index.indisvalid AS valid, coalesce(held.reloptions, '{}') AS options,
       CASE
           WHEN pg_index.indpred IS NOT NULL THEN NULL
           WHEN pg_opclass.opcname IN ('vector_cosine_ops', 'halfvec_cosine_ops') AND pg_index.indexprs IS NULL THEN 'none'
           WHEN entry.atttypmod <> wanted.dimensions THEN NULL
           WHEN pg_opclass.opcname = 'halfvec_cosine_ops'
                AND pg_get_expr(pg_index.indexprs, indexed.oid)
                = format('(%%I)::%%s', pg_attribute.attname, format_type(entry.atttypid, entry.atttypmod))
               THEN 'halfvec'
           WHEN pg_opclass.opcname = 'bit_hamming_ops'
                AND replace(pg_get_expr(pg_index.indexprs, indexed.oid), format('(%%I.binary', extension.nspname), '(binary')
                = format('(binary_quantize(%%I))::bit(%%s)', pg_attribute.attname, entry.atttypmod)
               THEN 'binary'
       END AS quantization
FROM pg_index
JOIN pg_class AS held ON held.oid = pg_index.indexrelid
JOIN pg_am ON pg_am.oid = held.relam AND pg_am.amname IN ('hnsw', 'ivfflat')
JOIN pg_opclass ON pg_opclass.oid = pg_index.indclass[0]
JOIN pg_class AS indexed ON indexed.oid = pg_index.indrelid
JOIN pg_namespace ON pg_namespace.oid = indexed.relnamespace
JOIN unnest(%(schemas)s::text[], %(tables)s::text[], %(vectors)s::text[], %(dimensions)s::integer[]) WITH ORDINALITY
    AS wanted (schema_name, table_name, vector_column, dimensions, number)
    ON indexed.relname = wanted.table_name AND pg_namespace.nspname = wanted.schema_name
JOIN pg_attribute ON pg_attribute.attrelid = indexed.oid AND pg_attribute.attname = wanted.vector_column
JOIN pg_namespace AS extension ON extension.oid = pg_opclass.opcnamespace
JOIN pg_attribute AS entry ON entry.attrelid = held.oid AND entry.attnum = 1
-- An index on an expression names no column, but depends on it.
WHERE EXISTS (
    SELECT FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND objid = held.oid
      AND refclassid = 'pg_class'::regclass AND refobjid = indexed.oid AND refobjsubid = pg_attribute.attnum
)
ORDER BY wanted.number, held.relname;

-- name: try_lock_index
-- One build or drop of a collection's index at a time, until the session ends or lets go. False: somebody is at it.
SELECT pg_try_advisory_lock(73058, %(collection_id)s);

-- name: unlock_index
SELECT pg_advisory_unlock(73058, %(collection_id)s);

-- name: keep_from_indexes
-- Until the transaction ends nobody builds or drops an index of a collection. False: somebody is at it.
SELECT pg_try_advisory_xact_lock(73058, %(collection_id)s);

-- name: session_setting
-- A setting for the rest of the session; returns its value as the server understood it.
SELECT set_config(%(name)s, %(value)s, false);

-- name: setting_bytes
-- A setting of memory, in bytes.
SELECT pg_size_bytes(current_setting(%(name)s));

-- name: setting
-- A setting, as it is shown.
SELECT current_setting(%(name)s);

-- name: index_is_valid
-- Whether an index of a table is valid; no row if there is no index of that name, or one of a kind that embedq does not build.
SELECT pg_index.indisvalid
FROM pg_index
JOIN pg_class AS held ON held.oid = pg_index.indexrelid AND held.relname = %(name)s
JOIN pg_am ON pg_am.oid = held.relam AND pg_am.amname IN ('hnsw', 'gin')
JOIN pg_class AS indexed ON indexed.oid = pg_index.indrelid AND indexed.relname = %(table)s
JOIN pg_namespace ON pg_namespace.oid = indexed.relnamespace AND pg_namespace.nspname = %(schema)s;

-- name: index_progress
-- How far the build of another session is: phase, blocks done and blocks in all, seconds since it began. No row when it is
-- not building.
SELECT phase, blocks_done, blocks_total, extract(EPOCH FROM clock_timestamp() - query_start)::double precision
FROM pg_stat_progress_create_index JOIN pg_stat_activity USING (pid)
WHERE pid = %(pid)s;

-- name: table_index_progress
-- The same of whoever builds an index on a table.
SELECT wanted.number, phase, blocks_done, blocks_total,
       extract(EPOCH FROM clock_timestamp() - query_start)::double precision
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) WITH ORDINALITY AS wanted (schema_name, table_name, number)
JOIN pg_namespace ON nspname = wanted.schema_name
JOIN pg_class ON relnamespace = pg_namespace.oid AND relname = wanted.table_name
JOIN pg_stat_progress_create_index AS building ON building.relid = pg_class.oid
JOIN pg_stat_activity ON pg_stat_activity.pid = building.pid
ORDER BY wanted.number, query_start;

-- name: index_usage
-- The indexes of tables: name, bytes on disk and scans since the statistics began, with those of its partitions, whether it is
-- valid, and its kind.
SELECT wanted.number, held.relname::text,
       coalesce(sum(pg_relation_size(coalesce(part.relid, held.oid))), 0)::bigint,
       coalesce(sum(pg_stat_get_numscans(coalesce(part.relid, held.oid))), 0)::bigint, indisvalid, amname::text
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) WITH ORDINALITY AS wanted (schema_name, table_name, number)
JOIN pg_namespace ON nspname = wanted.schema_name
JOIN pg_class AS indexed ON indexed.relnamespace = pg_namespace.oid AND indexed.relname = wanted.table_name
JOIN pg_index ON indrelid = indexed.oid
JOIN pg_class AS held ON held.oid = indexrelid
JOIN pg_am ON pg_am.oid = held.relam
LEFT JOIN LATERAL pg_partition_tree(held.oid) AS part ON true
GROUP BY wanted.number, held.relname, indisvalid, amname;

-- name: table_facts
-- What the catalogue and the statistics say of collections' tables: whether it and its columns are there, its rows, those that
-- were deleted or replaced since the last vacuum, seconds since that and since the statistics began, the memory that
-- Postgres has and reckons with, in bytes, and whether somebody works on its indexes. The statistics of a database begin with
-- the server's, or when they were reset; after a crash the server's begin anew, and the catalogue's count of rows stands in.
SELECT wanted.number,
       pg_class.oid IS NOT NULL AND NOT EXISTS (
           SELECT FROM unnest(ARRAY[
               wanted.key_column, wanted.vector_column, wanted.content_column, wanted.metadata_column
           ]) AS named
           WHERE named IS NOT NULL AND NOT EXISTS (
               SELECT FROM pg_attribute
               WHERE attrelid = pg_class.oid AND attname = named AND attnum > 0 AND NOT attisdropped
           )
       ),
       coalesce(nullif(pg_stat_get_live_tuples(pg_class.oid), 0), greatest(reltuples, 0)::bigint, 0),
       coalesce(pg_stat_get_dead_tuples(pg_class.oid), 0),
       extract(EPOCH FROM now() - greatest(
           pg_stat_get_last_vacuum_time(pg_class.oid), pg_stat_get_last_autovacuum_time(pg_class.oid)
       ))::double precision,
       extract(EPOCH FROM now() - (SELECT greatest(
           (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
           (SELECT stats_reset FROM pg_stat_bgwriter)
       )))::double precision,
       pg_size_bytes(current_setting('shared_buffers')), pg_size_bytes(current_setting('effective_cache_size')),
       wanted.id::bigint IN (
           SELECT objid::bigint FROM pg_locks
           WHERE locktype = 'advisory' AND classid = 73058 AND granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       )
FROM unnest(
    %(ids)s::integer[], %(schemas)s::text[], %(tables)s::text[],
    %(keys)s::text[], %(vectors)s::text[], %(contents)s::text[], %(metadata)s::text[]
) WITH ORDINALITY
    AS wanted (id, schema_name, table_name, key_column, vector_column, content_column, metadata_column, number)
LEFT JOIN pg_namespace ON nspname = wanted.schema_name
LEFT JOIN pg_class ON relnamespace = pg_namespace.oid AND relname = wanted.table_name
ORDER BY wanted.number;

-- name: null_fractions
-- The share of a table's rows that have null in a column, as of its last ANALYZE; null before the first, and where the role may
-- not read the column.
SELECT wanted.number, null_frac::double precision
FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(columns)s::text[]) WITH ORDINALITY
    AS wanted (schema_name, table_name, column_name, number)
LEFT JOIN pg_stats ON schemaname = wanted.schema_name AND tablename = wanted.table_name AND attname = wanted.column_name
ORDER BY wanted.number;

-- name: quantize_collection
-- What the collection's vector index holds from now on.
UPDATE embedq.collection SET quantization = %(quantization)s WHERE id = %(collection_id)s;
