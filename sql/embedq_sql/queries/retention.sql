-- What is removed when it is old enough, in small batches: the texts of dead letters, and tombstones. The locks taken here are
-- waited for by writers, and never wait themselves (SKIP LOCKED), so that no circle can arise.

-- name: try_retention
-- One process of the fleet at a time, until its transaction ends. The number is embedq's own, picked once.
SELECT pg_try_advisory_xact_lock(7305804403);

-- name: remove_texts
-- The texts of letters that have not died again for so many days; the letters stay.
WITH old AS (
    SELECT number
    FROM embedq.dead_letter_text AS kept JOIN embedq.dead_letter USING (number)
    WHERE last_at < now() - make_interval(secs => %(days)s * 86400)
    LIMIT %(limit)s
    FOR UPDATE OF kept SKIP LOCKED
)
DELETE FROM embedq.dead_letter_text AS kept USING old WHERE kept.number = old.number;

-- name: remove_tombstones
-- The ledger's entries of ids that were deleted so many days ago. From then on an older message can bring the id back.
WITH old AS (
    SELECT collection_id, id
    FROM embedq.item
    WHERE deleted_at < now() - make_interval(secs => %(days)s * 86400)
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
DELETE FROM embedq.item AS held USING old WHERE held.collection_id = old.collection_id AND held.id = old.id;
