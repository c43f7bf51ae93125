-- Measuring a vector index against exact search.

-- name: local_setting
-- A setting for the rest of the transaction.
SELECT set_config(%(name)s, %(value)s, true);

-- name: present_setting
-- A setting as it is now; null if nobody has loaded what it belongs to.
SELECT nullif(current_setting(%(name)s, true), '');

-- name: estimated_rows
-- Rows of a table by the statistics; -1 where it was never analysed.
SELECT reltuples::bigint FROM pg_class WHERE oid = %(table)s::regclass;

-- name: index_scans
-- Whether the server counts scans at all, and how many there were of these indexes, or of their partitions, in the transaction
-- under way.
SELECT current_setting('track_counts')::boolean,
       coalesce(sum(pg_stat_get_xact_numscans(coalesce(part.relid, held.oid))), 0)::bigint
FROM pg_class AS held JOIN pg_namespace ON pg_namespace.oid = held.relnamespace
LEFT JOIN LATERAL pg_partition_tree(held.oid) AS part ON true
WHERE pg_namespace.nspname = %(schema)s AND held.relname = ANY (%(indexes)s);
