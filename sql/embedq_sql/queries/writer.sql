-- The write path: what the worker's writer runs, each on one collection.
-- {table} is the collection's table, {incoming} the connection's temporary table for it, {vector} the column's type.

-- name: make_incoming
-- The landing place of a binary COPY, once a connection and collection: a row for each part of an item's text, and one without
-- a part for a delete. Vectors stay in the row if they fit: a temporary table's own TOAST would write them twice.
CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} (
    id text COLLATE "C",
    version bigint,
    content_hash bytea,
    tokens int,
    truncated boolean,
    chunks int,
    chunk int,
    content text,
    metadata jsonb,
    embedding {vector}
) ON COMMIT DELETE ROWS;

-- name: make_incoming_of_both
-- The same while the collection moves from one model to another; {other} is the type of the other model's vectors.
CREATE TEMPORARY TABLE IF NOT EXISTS {incoming} (
    id text COLLATE "C",
    version bigint,
    content_hash bytea,
    tokens int,
    truncated boolean,
    chunks int,
    chunk int,
    content text,
    metadata jsonb,
    embedding {vector},
    shadow {other}
) ON COMMIT DELETE ROWS;

-- name: hold_table
-- First in a transaction: from here on nobody drops the table. Other writers are not held up.
LOCK TABLE {table} IN ROW EXCLUSIVE MODE;

-- name: registered_layout
-- After hold_table: whether the table is still this collection's and not that of a later one of its name (no row else), and the
-- generations of the vectors in its columns: while the table is held, nobody swaps, adds or drops one.
SELECT collection.generation, shadow.generation AS other
FROM embedq.collection LEFT JOIN embedq.shadow ON shadow.collection_id = collection.id
WHERE collection.id = %(collection_id)s AND collection.name = %(name)s;

-- name: copy_incoming
COPY {incoming} FROM STDIN WITH BINARY;

-- name: advance_ledger
-- The guard of versions: an item passes where the ledger has nothing newer. Returns the ids that passed. In id order, so
-- that two writers wait for each other and never in a circle.
INSERT INTO embedq.item AS held
    (collection_id, id, version, content_hash, chunks, tokens, truncated, deleted_at, embedded_at)
SELECT %(collection_id)s, id, version, content_hash, chunks, tokens, truncated,
       CASE WHEN chunks = 0 THEN now() END, CASE WHEN chunks > 0 THEN now() END
FROM {incoming}
WHERE chunk = 0
ORDER BY id
ON CONFLICT (collection_id, id) DO UPDATE
SET version = EXCLUDED.version, content_hash = EXCLUDED.content_hash, chunks = EXCLUDED.chunks,
    tokens = EXCLUDED.tokens, truncated = EXCLUDED.truncated,
    deleted_at = EXCLUDED.deleted_at, embedded_at = EXCLUDED.embedded_at
WHERE (held.version, held.content_hash) < (EXCLUDED.version, EXCLUDED.content_hash)
   OR (%(again)s AND (held.version, held.content_hash) = (EXCLUDED.version, EXCLUDED.content_hash))
RETURNING id;

-- name: remove_rows
-- All rows of a deleted id, and those of the parts that a text has no more. A statement of its own after the guard: only
-- then does its snapshot show the rows of a writer that it waited for.
DELETE FROM {table} AS stored
USING {incoming} AS landed
WHERE stored.id = landed.id AND landed.chunk = 0 AND stored.chunk >= landed.chunks
  AND landed.id <> ALL (%(superseded)s);

-- name: put_rows
INSERT INTO {table} (id, chunk, content, metadata, embedding, version, updated_at)
SELECT id, chunk, content, metadata, embedding, version, now()
FROM {incoming}
WHERE chunks > 0 AND id <> ALL (%(superseded)s)
ORDER BY id, chunk
ON CONFLICT (id, chunk) DO UPDATE
SET content = EXCLUDED.content, metadata = EXCLUDED.metadata, embedding = EXCLUDED.embedding,
    version = EXCLUDED.version, updated_at = EXCLUDED.updated_at;

-- name: put_rows_of_both
-- The same with the other model's vector, in the column {shadow}: null where it has not come, and never that of an older text.
INSERT INTO {table} (id, chunk, content, metadata, embedding, {shadow}, version, updated_at)
SELECT id, chunk, content, metadata, embedding, shadow, version, now()
FROM {incoming}
WHERE chunks > 0 AND id <> ALL (%(superseded)s)
ORDER BY id, chunk
ON CONFLICT (id, chunk) DO UPDATE
SET content = EXCLUDED.content, metadata = EXCLUDED.metadata, embedding = EXCLUDED.embedding,
    {shadow} = EXCLUDED.{shadow}, version = EXCLUDED.version, updated_at = EXCLUDED.updated_at;

-- name: look_up
-- What the ledger holds of these ids.
SELECT id, version, content_hash, deleted_at IS NOT NULL AS deleted
FROM embedq.item
WHERE collection_id = %(collection_id)s AND id = ANY (%(ids)s);

-- name: touch_ledger
-- Unchanged content: move the version of those whose stored text is still the one that was compared.
WITH wanted AS (
    SELECT * FROM unnest(%(ids)s::text[], %(versions)s::bigint[], %(hashes)s::bytea[]) AS w (id, version, content_hash)
), locked AS (
    SELECT held.id, wanted.version
    FROM embedq.item AS held JOIN wanted
      ON held.collection_id = %(collection_id)s AND held.id = wanted.id COLLATE "C"
     AND held.content_hash = wanted.content_hash AND held.deleted_at IS NULL AND held.version <= wanted.version
    ORDER BY held.id
    FOR UPDATE OF held
)
UPDATE embedq.item AS held
SET version = locked.version
FROM locked
WHERE held.collection_id = %(collection_id)s AND held.id = locked.id
RETURNING held.id;

-- name: touch_rows
-- Unchanged content may come with other metadata, for every part of it; the vectors are not written.
UPDATE {table} AS stored
SET version = wanted.version, metadata = wanted.metadata, updated_at = now()
FROM unnest(%(ids)s::text[], %(versions)s::bigint[], %(metadata)s::text[]::jsonb[]) AS wanted (id, version, metadata)
WHERE stored.id = wanted.id COLLATE "C";

-- name: bury
-- A dead letter with its text beside it. The same item that dies again of the same cause adds nothing but an attempt.
WITH buried AS (
    INSERT INTO embedq.dead_letter
        (collection, item_id, version, class, status, code, parameter, attempts, source, lane, first_at, last_at)
    VALUES (%(collection)s, %(item_id)s, %(version)s, %(class)s, %(status)s, %(code)s, %(parameter)s, %(attempts)s,
            %(source)s, %(lane)s, now(), now())
    ON CONFLICT (collection, item_id, version, class, code) DO UPDATE
    SET attempts = embedq.dead_letter.attempts + EXCLUDED.attempts, last_at = EXCLUDED.last_at
    RETURNING number
)
INSERT INTO embedq.dead_letter_text (number, payload)
SELECT number, %(payload)s FROM buried
ON CONFLICT (number) DO UPDATE SET payload = EXCLUDED.payload;
