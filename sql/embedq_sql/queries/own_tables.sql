-- What the catalogue says of somebody's own table, of which a collection is to write the vectors.

-- name: split_name
-- The parts of a table's name as SQL reads it: folded to lower case unless quoted.
SELECT parse_ident(%(name)s);

-- name: own_table
-- Kind as in pg_class.relkind; whether it is a partition, has children by inheritance, and row-level security; what the role may
-- do in its schema, and who the role is.
SELECT relkind::text AS kind, relispartition AS is_partition,
       relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = pg_class.oid) AS has_children,
       relrowsecurity AS has_row_security,
       has_schema_privilege(relnamespace, 'USAGE') AS may_use_schema,
       has_schema_privilege(relnamespace, 'CREATE') AS may_create,
       quote_ident(current_user) AS role
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %(schema)s AND relname = %(table)s;

-- name: own_columns
-- Its columns: type as it is written, whether pgvector's and of which size, whether null is refused, whether it is generated,
-- whether equal values are equal byte for byte, whether a unique index has it alone, and what the role may do.
SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type,
       CASE WHEN extname IS NOT NULL THEN typname::text END AS vector_type, atttypmod AS size,
       attnotnull AS is_required, attgenerated <> '' AS is_generated,
       coalesce(collisdeterministic, true) AS is_exact,
       EXISTS (
           SELECT FROM pg_index
           WHERE indrelid = attrelid AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL
             AND indnkeyatts = 1 AND indkey[0] = attnum
       ) AS is_unique,
       has_column_privilege(attrelid, attnum, 'SELECT') AS may_select,
       has_column_privilege(attrelid, attnum, 'UPDATE') AS may_update
FROM pg_attribute
JOIN pg_class ON pg_class.oid = attrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_type ON pg_type.oid = atttypid
LEFT JOIN pg_collation ON pg_collation.oid = attcollation
LEFT JOIN pg_extension ON extname = 'vector' AND extnamespace = typnamespace AND typname IN ('vector', 'halfvec')
WHERE nspname = %(schema)s AND relname = %(table)s AND attnum > 0 AND NOT attisdropped
ORDER BY attnum;

-- name: own_triggers
-- Triggers that an update of a column fires.
SELECT tgname::text
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN pg_attribute ON attrelid = tgrelid AND attname = %(column)s
WHERE nspname = %(schema)s AND relname = %(table)s AND NOT tgisinternal AND tgenabled <> 'D'
  AND tgtype & 16 <> 0 AND (cardinality(tgattr::int2[]) = 0 OR attnum = ANY (tgattr::int2[]))
ORDER BY tgname;

-- name: own_writer
-- The collection that writes a column already.
SELECT name
FROM embedq.collection
WHERE table_schema = %(table_schema)s AND table_name = %(table_name)s AND vector_column = %(vector_column)s;

-- name: own_index_taken
-- Of the names of a collection's indexes, one that something else has than such an index on such a column.
SELECT taken.relname::text
FROM pg_class AS taken
JOIN pg_namespace ON pg_namespace.oid = taken.relnamespace
LEFT JOIN pg_am ON pg_am.oid = taken.relam
WHERE nspname = %(table_schema)s AND taken.relname = ANY (%(indexes)s) AND NOT EXISTS (
    SELECT FROM pg_depend
    JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
    JOIN pg_class AS own ON own.oid = attrelid AND own.relnamespace = taken.relnamespace
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND objid = taken.oid
      AND own.relname = %(table_name)s
      AND (amname, attname) IN (('hnsw', %(vector_column)s::name), ('gin', %(content_column)s::name))
)
LIMIT 1;

-- name: wait_for_writers
-- Before a collection is forgotten whose table stays: its writers' transactions are over, and later ones see that it is gone.
SELECT pg_advisory_xact_lock(73059, %(collection_id)s);
