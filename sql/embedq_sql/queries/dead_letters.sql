-- Dead letters as people look at them; the writer's statements write them.

-- name: dead_letters
-- The newest dead letters, newest first, of one collection or (null) of all. Never with their text.
SELECT number, collection, item_id, version, class, status, code, parameter, attempts, source, lane, first_at, last_at
FROM embedq.dead_letter
WHERE %(collection)s::text IS NULL OR collection = %(collection)s
ORDER BY number DESC
LIMIT %(limit)s

-- name: count_dead_letters
-- How many dead letters each collection has.
SELECT collection, count(*) FROM embedq.dead_letter GROUP BY collection
