-- The outbox as workers see it: what their relays send to Redis, and how a row is settled. The outbox fills and empties within
-- seconds, so that what Postgres knows of its size is soon wrong: each of these is planned anew, at the size that it has.
-- Rows are locked by relays and sweeps, which wait for nobody (SKIP LOCKED); by writers, which wait as little; and by burials, in
-- the order of ids and versions. So nobody waits in a circle.

-- name: look_at_outbox
-- The epoch, and of each lane that has rows the one that was sent longest ago, by epoch, then time: with an epoch below the
-- present one it is unsent. One jump through an index a lane, however many rows there are. No name: the collection was dropped.
-- One row without a lane where there is none.
WITH RECURSIVE lane AS (
    (SELECT collection_id, is_bulk, epoch, moved_at FROM embedq.outbox
     ORDER BY collection_id, is_bulk, epoch, moved_at LIMIT 1)
    UNION ALL
    SELECT later.* FROM lane CROSS JOIN LATERAL (
        SELECT collection_id, is_bulk, epoch, moved_at FROM embedq.outbox AS held
        WHERE (held.collection_id, held.is_bulk) > (lane.collection_id, lane.is_bulk)
        ORDER BY held.collection_id, held.is_bulk, held.epoch, held.moved_at LIMIT 1
    ) AS later
)
SELECT broker.epoch AS present, lane.collection_id, collection.name, collection.model, lane.is_bulk, lane.epoch,
       extract(EPOCH FROM clock_timestamp() - lane.moved_at)::float8 AS age
FROM embedq.broker
LEFT JOIN lane ON true
LEFT JOIN embedq.collection ON collection.id = lane.collection_id;

-- name: plan_by_index
-- First in a transaction that reads a lane in its order, which is that of an index: statistics from when the outbox was nearly
-- empty would have all that is in it sorted for each thousand rows.
SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_seqscan', 'off', true);

-- name: claim_outbox
-- The next rows of a lane to be sent: unsent ones, then those sent longer ago than `age` seconds (null: none of them), locked
-- until the transaction ends. At most `rows` of them, and none once `bytes` of text are claimed. What no message holds is left
-- where it is, text and metadata; metadata that Postgres holds in a few kilobytes may be many megabytes of JSON.
SELECT number, id, version, source, text IS NULL AS is_delete,
       CASE WHEN octet_length(text) <= %(largest)s THEN text END AS text,
       CASE WHEN octet_length(json) <= %(largest)s THEN json END AS metadata,
       coalesce(octet_length(text) > %(largest)s, false)
       OR metadata IS NOT NULL AND coalesce(octet_length(json) > %(largest)s, true) AS is_too_large,
       extract(EPOCH FROM moved_at)::float8 AS moved_at
FROM (
    SELECT claimed.*, CASE WHEN pg_column_size(claimed.metadata) <= %(largest)s THEN claimed.metadata::text END AS json
    FROM (
        SELECT held.*, sum(least(held.size, %(largest)s)) OVER (ORDER BY held.epoch, held.moved_at, held.number) AS bytes
        FROM (
            SELECT *, coalesce(octet_length(text), 0) + coalesce(pg_column_size(metadata), 0) AS size
            FROM embedq.outbox
            WHERE collection_id = %(collection_id)s AND is_bulk = %(is_bulk)s
              AND (epoch, moved_at) < (%(epoch)s, coalesce(clock_timestamp() - make_interval(secs => %(age)s), '-infinity'))
            ORDER BY epoch, moved_at
            LIMIT %(rows)s
            FOR UPDATE SKIP LOCKED
        ) AS held
    ) AS claimed
    WHERE claimed.bytes - least(claimed.size, %(largest)s) < %(bytes)s
    ORDER BY claimed.epoch, claimed.moved_at, claimed.number
) AS rendered
ORDER BY epoch, moved_at, number;

-- name: mark_sent
UPDATE embedq.outbox SET epoch = %(epoch)s, moved_at = clock_timestamp() WHERE number = ANY (%(numbers)s::bigint[]);

-- name: remove_from_outbox
-- Rows that cannot be sent: their dead letters are in the same transaction.
DELETE FROM embedq.outbox WHERE number = ANY (%(numbers)s::bigint[]);

-- name: hold_epoch
-- The epoch, which nobody else changes until the transaction ends.
SELECT epoch FROM embedq.broker FOR UPDATE;

-- name: set_epoch
UPDATE embedq.broker SET epoch = %(epoch)s, changed_at = clock_timestamp();

-- name: settle_outbox
-- In the writer's transaction, after the ledger: rows whose items are stored, or superseded by what is. Of equal versions the
-- ledger's order decides, so that another text of this version stays. What somebody holds is left to the sweep.
WITH item AS (
    SELECT * FROM unnest(%(ids)s::text[], %(versions)s::bigint[], %(hashes)s::bytea[]) AS given (id, version, content_hash)
), settled AS (
    SELECT held.number
    FROM item CROSS JOIN LATERAL (
        SELECT outbox.number FROM embedq.outbox
        WHERE outbox.collection_id = %(collection_id)s AND outbox.id = item.id COLLATE "C" AND outbox.version <= item.version
          AND (outbox.version < item.version
               OR coalesce(sha256(convert_to(outbox.text, 'UTF8')), '') <= item.content_hash)
        FOR UPDATE SKIP LOCKED
    ) AS held
)
DELETE FROM embedq.outbox WHERE number = ANY (ARRAY(SELECT number FROM settled));

-- name: settle_buried
-- In the transaction of dead letters: the rows of their items, by the collections' names.
WITH item AS MATERIALIZED (
    SELECT collection.id AS collection_id, given.id, given.version
    FROM unnest(%(collections)s::text[], %(ids)s::text[], %(versions)s::bigint[]) AS given (collection, id, version)
    JOIN embedq.collection ON collection.name = given.collection
    ORDER BY collection.id, given.id COLLATE "C", given.version
), settled AS (
    SELECT held.number
    FROM item CROSS JOIN LATERAL (
        SELECT outbox.number FROM embedq.outbox
        WHERE outbox.collection_id = item.collection_id AND outbox.id = item.id COLLATE "C" AND outbox.version = item.version
        FOR UPDATE
    ) AS held
)
DELETE FROM embedq.outbox WHERE number = ANY (ARRAY(SELECT number FROM settled));

-- name: sweep_outbox
-- Rows that were sent more than `after` seconds ago and are settled without a write: what is stored is as new as they are.
-- `rows` of a lane are looked at, those that were sent after `since`. Returns how many that were, when the last of
-- them was sent, and how many were removed.
WITH page AS MATERIALIZED (
    SELECT number, id, version, moved_at FROM embedq.outbox
    WHERE collection_id = %(collection_id)s AND is_bulk = %(is_bulk)s AND epoch = %(epoch)s
      AND moved_at > %(since)s AND moved_at < clock_timestamp() - make_interval(secs => %(after)s)
    ORDER BY moved_at
    LIMIT %(rows)s
), swept AS (
    DELETE FROM embedq.outbox
    WHERE number = ANY (ARRAY(
        SELECT stray.number
        FROM page
        JOIN embedq.item AS stored
            ON stored.collection_id = %(collection_id)s AND stored.id = page.id AND stored.version >= page.version
        CROSS JOIN LATERAL (
            SELECT held.number FROM embedq.outbox AS held
            WHERE held.number = page.number
              AND (stored.version > held.version
                   OR stored.content_hash >= coalesce(sha256(convert_to(held.text, 'UTF8')), ''))
            FOR UPDATE SKIP LOCKED
        ) AS stray
    ))
    RETURNING number
)
SELECT count(*), max(moved_at), (SELECT count(*) FROM swept) FROM page;

-- name: remove_orphans
-- Rows of a collection that was dropped while they were enqueued.
DELETE FROM embedq.outbox
WHERE number = ANY (ARRAY(
    SELECT number FROM embedq.outbox
    WHERE collection_id = %(collection_id)s
      AND NOT EXISTS (SELECT FROM embedq.collection WHERE collection.id = %(collection_id)s)
    LIMIT %(rows)s
    FOR UPDATE SKIP LOCKED
));

-- name: count_some_unsent
-- How many rows of each lane are unsent, of each at most so many.
WITH RECURSIVE lane AS (
    (SELECT collection_id, is_bulk FROM embedq.outbox ORDER BY collection_id, is_bulk LIMIT 1)
    UNION ALL
    SELECT later.* FROM lane CROSS JOIN LATERAL (
        SELECT collection_id, is_bulk FROM embedq.outbox AS held
        WHERE (held.collection_id, held.is_bulk) > (lane.collection_id, lane.is_bulk)
        ORDER BY held.collection_id, held.is_bulk LIMIT 1
    ) AS later
)
SELECT collection.name, lane.is_bulk, (
    SELECT count(*) FROM (
        SELECT 1 FROM embedq.outbox AS held
        WHERE held.collection_id = lane.collection_id AND held.is_bulk = lane.is_bulk AND held.epoch < broker.epoch
        LIMIT %(most)s
    ) AS counted
)
FROM embedq.broker
CROSS JOIN lane
JOIN embedq.collection ON collection.id = lane.collection_id;

-- name: count_some_pending
-- How many rows each collection has in the outbox, of each at most so many, and since when the oldest that is unsent waits, in
-- seconds. A few jumps through an index for each, however many rows there are.
SELECT collection.name, (
    SELECT count(*) FROM (
        SELECT 1 FROM embedq.outbox AS held WHERE held.collection_id = collection.id LIMIT %(most)s
    ) AS counted
) AS pending, (
    SELECT extract(EPOCH FROM clock_timestamp() - min(first.moved_at))::float8
    FROM unnest(ARRAY[false, true]) AS lane (is_bulk)
    CROSS JOIN LATERAL (
        SELECT held.moved_at FROM embedq.outbox AS held
        WHERE held.collection_id = collection.id AND held.is_bulk = lane.is_bulk AND held.epoch < broker.epoch
        ORDER BY held.epoch, held.moved_at LIMIT 1
    ) AS first
) AS oldest
FROM embedq.collection CROSS JOIN embedq.broker;
