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

-- name: have_vectors
-- Those of these ids whose row has a vector: somebody may have deleted a row and inserted it again.
SELECT wanted.id
FROM unnest(%(ids)s::text[]) AS wanted (id) JOIN {table} AS stored ON stored.{key_column} = wanted.id::{key_type}
WHERE stored.{vectors} IS NOT NULL;
