-- What tests against a whole installation ask for (embedq_worker.testing).

-- name: count_unsettled
-- How many rows of the outbox are not settled. Those that are superseded are, though a sweep removes them later.
SELECT count(*)
FROM embedq.outbox
WHERE NOT EXISTS (SELECT 1 FROM embedq.item
                  WHERE item.collection_id = outbox.collection_id AND item.id = outbox.id
                    AND item.version >= outbox.version);

-- name: forget_contents
-- A collection's ledger and outbox, emptied.
WITH forgotten AS (DELETE FROM embedq.item WHERE collection_id = %(collection)s)
DELETE FROM embedq.outbox WHERE collection_id = %(collection)s;
