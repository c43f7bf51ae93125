-- A collection held against what it was made from: what `embedq reconcile` runs.

-- name: lock_reconciling
-- For this session, if no other has it: two at a time could repair one id by one version from two texts.
SELECT pg_try_advisory_lock(73061, %(collection_id)s);

-- name: count_ledger
-- The ids that a collection's ledger knows, tombstones among them.
SELECT count(*) FROM embedq.item WHERE collection_id = %(collection_id)s;

-- name: held_by_id
-- Every id that the ledger or the collection's table {table} knows, in byte order. is_whole: the table has as many rows as the
-- ledger says. Rows that the ledger does not know have no version. metadata_hash as in the template source_rows; null where an
-- id's rows have several, and where it is not asked for.
WITH ledger AS (
    SELECT * FROM embedq.item WHERE collection_id = %(collection_id)s
), hashed AS (
    SELECT id, CASE WHEN %(wants_metadata)s THEN hashtextextended(metadata::text COLLATE "C", 0) END AS hash FROM {table}
), stored AS (
    SELECT id, count(*) AS chunks, min(hash) AS least_hash, max(hash) AS greatest_hash FROM hashed GROUP BY id
)
SELECT coalesce(ledger.id, stored.id) AS id, ledger.version, ledger.content_hash, ledger.deleted_at IS NOT NULL AS is_deleted,
       coalesce(ledger.chunks, 0) = coalesce(stored.chunks, 0) AS is_whole,
       CASE WHEN stored.least_hash = stored.greatest_hash THEN stored.least_hash END AS metadata_hash
FROM ledger FULL JOIN stored ON stored.id = ledger.id
ORDER BY coalesce(ledger.id, stored.id);

-- name: held_by_own_key
-- The same of somebody's own table, whose rows are no vectors by themselves. is_whole: the id's row has its vector.
SELECT ledger.id, ledger.version, ledger.content_hash, ledger.deleted_at IS NOT NULL AS is_deleted,
       ledger.deleted_at IS NOT NULL OR stored.{vectors} IS NOT NULL AS is_whole, NULL AS metadata_hash
FROM embedq.item AS ledger
LEFT JOIN {table} AS stored ON ledger.deleted_at IS NULL AND stored.{key_column} = (ledger.id COLLATE "default")::{key_type}
WHERE ledger.collection_id = %(collection_id)s
ORDER BY ledger.id;

-- name: other_metadata
-- Those of these ids of which a row of the collection's table {table} has other metadata than these.
SELECT DISTINCT stored.id
FROM unnest(%(ids)s::text[], %(metadata)s::text[]) AS wanted (id, metadata)
JOIN {table} AS stored ON stored.id = wanted.id COLLATE "C"
WHERE stored.metadata <> wanted.metadata::jsonb;

-- name: newest_letters
-- Of each of these ids the dead letter of its highest version, and what is kept of its item. Those of the model that the
-- collection moves to are of items that are stored.
SELECT DISTINCT ON (letter.item_id) letter.item_id, letter.version, kept.payload
FROM embedq.dead_letter AS letter LEFT JOIN embedq.dead_letter_text AS kept USING (number)
WHERE letter.collection = %(collection)s AND letter.item_id = ANY (%(ids)s) AND letter.class <> 'successor'
  AND letter.version IS NOT NULL
ORDER BY letter.item_id ASC, letter.version DESC, letter.number DESC;

-- name: forget_texts
-- The ledger forgets which text is stored of ids whose rows are gone: who brings it again is not told that nothing changed.
WITH wanted AS (
    SELECT * FROM unnest(%(ids)s::text[], %(versions)s::bigint[]) AS w (id, version)
), locked AS (
    SELECT held.id
    FROM embedq.item AS held JOIN wanted
      ON held.collection_id = %(collection_id)s AND held.id = wanted.id COLLATE "C" AND held.version = wanted.version
    WHERE held.deleted_at IS NULL
    ORDER BY held.id
    FOR UPDATE OF held
)
UPDATE embedq.item AS held
SET content_hash = ''
FROM locked
WHERE held.collection_id = %(collection_id)s AND held.id = locked.id;

-- name: watched_source
-- The query for the items of the table that a collection follows (null: of none), and whether the backfill has read it.
SELECT embedq.watched_query(%(collection)s), (
    SELECT filled_at IS NOT NULL FROM embedq.watched_table WHERE collection_id = %(collection_id)s
);

-- name: narrow_names
-- Until it is set back, or the transaction ends, names without a schema are Postgres' own. Returns what held before.
SELECT current_setting('search_path'), set_config('search_path', 'pg_catalog, pg_temp', true);

-- name: widen_names
SELECT set_config('search_path', %(search_path)s, true);

-- name: make_listed
-- Where a file's items wait to be compared, for the length of the session.
CREATE TEMPORARY TABLE embedq_listed (
    number bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    text text,
    metadata jsonb,
    version bigint
);

-- name: copy_listed
COPY pg_temp.embedq_listed FROM STDIN;

-- name: listed
-- Of each id what the file says last.
SELECT DISTINCT ON (id) id, text, metadata, version
FROM pg_temp.embedq_listed
ORDER BY id ASC, number DESC;

-- name: ids_in_outbox
-- Those of these ids that are on their way.
SELECT DISTINCT id FROM embedq.outbox WHERE collection_id = %(collection_id)s AND id = ANY (%(ids)s);

-- name: enqueue_repairs
-- Into the outbox with versions of our own, which `embedq.enqueue` would not take: whatever changes meanwhile has a higher one.
INSERT INTO embedq.outbox (collection_id, id, version, text, metadata, source, is_bulk)
SELECT %(collection_id)s, repair.id, repair.version, repair.text, repair.metadata::jsonb, 'reconcile', true
FROM unnest(%(ids)s::text[], %(versions)s::bigint[], %(texts)s::text[], %(metadata)s::text[])
    AS repair (id, version, text, metadata);

-- name: settled_misses
-- When changes of the watched table were missed, and the number of this transaction; no row unless the last of them is more
-- than a minute old: until then further changes may be missed without a note.
SELECT array_agg(missed_at), pg_current_xact_id()::text
FROM embedq.missed_change
WHERE collection_id = %(collection_id)s
HAVING max(missed_at) < now() - interval '1 minute';

-- name: sees_all_before
-- Whether everybody who began to write before that transaction has ended: what they changed is seen.
SELECT pg_snapshot_xmin(pg_current_snapshot()) > %(transaction)s::xid8;

-- name: forget_misses
DELETE FROM embedq.missed_change WHERE collection_id = %(collection_id)s AND missed_at = ANY (%(missed)s);
