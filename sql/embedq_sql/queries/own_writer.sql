-- The write path of a collection in somebody's own table: only vectors are written, and no row is made or removed.
-- {table} is that table, {key_column} and {key_type} its key column and the type of it, {vectors} the column of vectors,
-- {incoming} the connection's temporary table. Ids are compared in the key's collation, which may be another than the ledger's.

-- name: hold_collection
-- First in a transaction, instead of a lock on the table, which would take more rights: from here on nobody drops the collection.
SELECT pg_advisory_xact_lock_shared(73059, %(collection_id)s);

-- name: write_vectors
-- The vectors of ids that passed the ledger's guard, null for a deleted one. Returns the ids that have a row. Locked in id order,
-- like the ledger, whatever the order of the join.
WITH landed AS (
    SELECT id COLLATE "default" AS id, embedding
    FROM {incoming}
    WHERE id <> ALL (%(superseded)s)
), locked AS (
    SELECT stored.{key_column} AS key, landed.id, landed.embedding
    FROM {table} AS stored JOIN landed ON stored.{key_column} = landed.id::{key_type}
    ORDER BY landed.id COLLATE "C"
    FOR NO KEY UPDATE OF stored
)
UPDATE {table} AS stored
SET {vectors} = locked.embedding
FROM locked
WHERE stored.{key_column} = locked.key
RETURNING locked.id;

-- name: look_up_rows
-- Those of these ids that have a row, and whether it has a vector: somebody may have deleted a row and inserted it again.
SELECT wanted.id, stored.{vectors} IS NOT NULL AS has_vector
FROM unnest(%(ids)s::text[]) AS wanted (id) JOIN {table} AS stored ON stored.{key_column} = wanted.id::{key_type};

-- name: lock_free_rows
-- Those of these ids whose row no other transaction holds: whoever waits for a row that one holds, waits for all of that one.
SELECT wanted.id
FROM unnest(%(ids)s::text[]) AS wanted (id) JOIN {table} AS stored ON stored.{key_column} = wanted.id::{key_type}
FOR NO KEY UPDATE OF stored SKIP LOCKED;

-- name: own_standing
-- Of each column that is read or written: whether the table and the column are there, and the statements that give this role the
-- rights that it lacks, else null.
SELECT wanted.name, pg_class.oid IS NOT NULL AS has_table, attnum IS NOT NULL AS is_there,
       CASE WHEN NOT has_schema_privilege(relnamespace, 'USAGE')
            THEN format('GRANT USAGE ON SCHEMA %%I TO %%I', nspname, current_user) END AS schema_grant,
       CASE WHEN NOT has_column_privilege(attrelid, attnum, privilege)
            THEN format('GRANT %%s (%%I) ON %%I.%%I TO %%I', privilege, attname, nspname, relname, current_user)
            END AS column_grant
FROM (
    VALUES (%(key_column)s::text, 'SELECT'), (%(vector_column)s::text, 'SELECT'), (%(vector_column)s::text, 'UPDATE')
) AS wanted (name, privilege)
LEFT JOIN (pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace)
    ON nspname = %(table_schema)s AND relname = %(table_name)s
LEFT JOIN pg_attribute
    ON attrelid = pg_class.oid AND attname = wanted.name AND attnum > 0 AND NOT attisdropped;
