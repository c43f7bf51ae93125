-- Filling the column of a model that a collection moves to, or came from: what a worker runs.
-- {table} is the collection's table, {shadow} the column, {landing} the connection's temporary table for it, {vector} the
-- column's type.

-- name: unfilled_rows
-- The rows of these ids that have no vector yet, with their texts.
SELECT id, chunk, content, version
FROM {table}
WHERE id = ANY (%(ids)s) AND {shadow} IS NULL
ORDER BY id, chunk;

-- name: make_filling
-- The landing place of a binary COPY, once a connection and generation.
CREATE TEMPORARY TABLE IF NOT EXISTS {landing} (
    id text COLLATE "C",
    chunk int,
    content_hash bytea,
    embedding {vector}
) ON COMMIT DELETE ROWS;

-- name: copy_filling
COPY {landing} FROM STDIN WITH BINARY;

-- name: fill_rows
-- Each vector for the row whose text it was made of, if that still stands there and still lacks it. Locked in the order in which
-- writers lock.
WITH locked AS (
    SELECT stored.id, stored.chunk, landed.embedding
    FROM {table} AS stored JOIN {landing} AS landed ON landed.id = stored.id AND landed.chunk = stored.chunk
    WHERE stored.{shadow} IS NULL AND sha256(convert_to(stored.content, 'UTF8')) = landed.content_hash
    ORDER BY stored.id, stored.chunk
    FOR UPDATE OF stored
)
UPDATE {table} AS stored
SET {shadow} = locked.embedding
FROM locked
WHERE stored.id = locked.id AND stored.chunk = locked.chunk;
