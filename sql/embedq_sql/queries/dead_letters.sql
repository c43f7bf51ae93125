-- Dead letters as people look at them, replay them and drop them; the writer's statements write them. A filter that is null
-- lets every letter pass.

-- name: dead_letters
-- The newest dead letters, newest first, of one collection or (null) of all. Never with their text; has_text needs no right
-- but that to read dead_letter_text.number.
SELECT number, collection, item_id, version, class, status, code, parameter, attempts, source, lane, first_at, last_at,
       kept.number IS NOT NULL AS has_text
FROM embedq.dead_letter LEFT JOIN embedq.dead_letter_text AS kept USING (number)
WHERE (%(collection)s::text IS NULL OR collection = %(collection)s)
  AND (%(class)s::text IS NULL OR class = %(class)s)
  AND (%(code)s::text IS NULL OR code = %(code)s)
  AND (%(numbers)s::bigint[] IS NULL OR number = ANY (%(numbers)s))
ORDER BY number DESC
LIMIT %(limit)s;

-- name: count_dead_letters
-- How many dead letters each collection has.
SELECT collection, count(*) FROM embedq.dead_letter GROUP BY collection;

-- name: count_some_dead_letters
-- How many dead letters each collection has, of each at most so many: the names are found by jumps through the index of the
-- unique constraint, and so many entries of it are read for each, however many letters there are. Null: of no collection.
WITH RECURSIVE named AS (
    (SELECT collection FROM embedq.dead_letter WHERE collection IS NOT NULL ORDER BY collection LIMIT 1)
    UNION ALL
    SELECT (SELECT later.collection FROM embedq.dead_letter AS later WHERE later.collection > named.collection
            ORDER BY later.collection LIMIT 1)
    FROM named WHERE named.collection IS NOT NULL
)
SELECT named.collection, (SELECT count(*) FROM (SELECT 1 FROM embedq.dead_letter AS letter
                                                WHERE letter.collection = named.collection LIMIT %(most)s) AS counted)
FROM named WHERE named.collection IS NOT NULL
UNION ALL
SELECT null, count(*) FROM (SELECT 1 FROM embedq.dead_letter WHERE collection IS NULL LIMIT %(most)s) AS counted;

-- name: count_chosen_letters
-- How many dead letters are chosen, and the highest number of all: later ones are not meant.
SELECT count(*), (SELECT coalesce(max(any_letter.number), 0) FROM embedq.dead_letter AS any_letter)
FROM embedq.dead_letter
WHERE (%(collection)s::text IS NULL OR collection = %(collection)s)
  AND (%(class)s::text IS NULL OR class = %(class)s)
  AND (%(code)s::text IS NULL OR code = %(code)s)
  AND (%(numbers)s::bigint[] IS NULL OR number = ANY (%(numbers)s));

-- name: claim_letters
-- The next chosen letters with their texts, oldest first, locked until the transaction ends. What another replay holds, or
-- a worker that buries the same item again, is passed over: two replays share the work.
SELECT number, collection, version, class, code, source, lane, first_at, payload
FROM embedq.dead_letter AS letter LEFT JOIN embedq.dead_letter_text USING (number)
WHERE number > %(after)s AND number <= %(last)s
  AND (%(collection)s::text IS NULL OR collection = %(collection)s)
  AND (%(class)s::text IS NULL OR class = %(class)s)
  AND (%(code)s::text IS NULL OR code = %(code)s)
  AND (%(numbers)s::bigint[] IS NULL OR number = ANY (%(numbers)s))
ORDER BY number
LIMIT %(limit)s
FOR UPDATE OF letter SKIP LOCKED;

-- name: settle_letters
-- These are queued again. Their texts go with them (ON DELETE CASCADE).
DELETE FROM embedq.dead_letter WHERE number = ANY (%(numbers)s);

-- name: drop_letters
-- The chosen letters, with their texts.
DELETE FROM embedq.dead_letter
WHERE number <= %(last)s
  AND (%(collection)s::text IS NULL OR collection = %(collection)s)
  AND (%(class)s::text IS NULL OR class = %(class)s)
  AND (%(code)s::text IS NULL OR code = %(code)s)
  AND (%(numbers)s::bigint[] IS NULL OR number = ANY (%(numbers)s));
