-- Tables that collections follow.

-- name: watches
-- How each of them stands, by the collection's name.
SELECT collection, source, id, text, metadata, state, watched_at, filled_rows, filled_at, estimated_rows,
       missed_since, missed_code
FROM embedq.watch_status
ORDER BY collection COLLATE "C";

-- name: add_watch
-- Lets a collection follow a table; null as the table where there is none of the name.
SELECT embedq.watch(to_regclass(%(source)s), %(id)s, %(text)s, %(collection)s, %(metadata)s);

-- name: remove_watch
-- Lets a collection follow no table any more; an error where it follows none.
SELECT embedq.unwatch(%(collection)s);

-- name: drop_watch
-- The same before a collection is dropped; nothing where it follows none.
SELECT embedq.unwatch(collection.name)
FROM embedq.watched_table JOIN embedq.collection ON collection.id = watched_table.collection_id
WHERE collection.id = %(collection_id)s;

-- name: bulk_waiting
-- Rows of a collection's lane bulk that no relay has sent yet; counted to a bound.
SELECT count(*)
FROM (
    SELECT FROM embedq.outbox
    WHERE is_bulk AND epoch < (SELECT epoch FROM embedq.broker)
      AND collection_id = (SELECT id FROM embedq.collection WHERE name = %(collection)s)
    LIMIT %(most)s
) AS waiting;
