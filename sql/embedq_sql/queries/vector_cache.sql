-- The cache of vectors. Whoever claims or writes several rows does so in the order of their hashes, so that two processes
-- wait for each other and never in a circle. %(…)b: bytes as they are, where the driver would write them out as text.

-- name: claim_vectors
-- Of these texts: those that have a vector, with it, and those that this claimant is to get now, without one. The rest is
-- claimed by others who are alive. Reads only, where there is nothing to claim.
WITH seen AS MATERIALIZED (
    SELECT held.content_hash, held.vector, held.used_at < now() - interval '1 day' AS is_stale, held.claimed_by,
           held.vector IS NULL AND (held.claimed_by = %(claimant)s OR claimant.name IS NULL) AS is_free
    FROM embedq.vector_cache AS held
    LEFT JOIN embedq.vector_claimant AS claimant
      ON claimant.name = held.claimed_by AND claimant.alive_until > now()
    WHERE held.content_hash = ANY (%(hashes)b) AND held.model = %(model)s AND held.parameters = %(parameters)s
), claimed AS (
    INSERT INTO embedq.vector_cache AS held (model, parameters, content_hash, claimed_by)
    SELECT %(model)s, %(parameters)s, content_hash, %(claimant)s
    FROM unnest(%(hashes)b::bytea[]) AS wanted (content_hash)
    WHERE content_hash NOT IN (SELECT content_hash FROM seen WHERE NOT is_free)
    ORDER BY content_hash
    ON CONFLICT (content_hash, model, parameters) DO UPDATE
    SET claimed_by = EXCLUDED.claimed_by, used_at = now()
    -- Somebody may have come between. Taken over is only from whom we saw to be dead: this statement's snapshot does not
    -- show that a newer claimant is alive.
    WHERE held.vector IS NULL AND held.claimed_by IN (SELECT claimed_by FROM seen WHERE is_free)
    RETURNING content_hash
)
SELECT content_hash, vector, is_stale FROM seen WHERE vector IS NOT NULL
UNION ALL
SELECT content_hash, NULL, false FROM claimed;

-- name: mark_vectors_used
-- Once a day at most, so that reading does not become writing.
UPDATE embedq.vector_cache AS held
SET used_at = now()
FROM (
    SELECT content_hash
    FROM embedq.vector_cache
    WHERE model = %(model)s AND parameters = %(parameters)s AND content_hash = ANY (%(hashes)b)
    FOR UPDATE SKIP LOCKED
) AS used
WHERE held.model = %(model)s AND held.parameters = %(parameters)s AND held.content_hash = used.content_hash;

-- name: keep_vectors
-- Vectors that have come, also where the claim was lost meanwhile. The first one of a text stays.
INSERT INTO embedq.vector_cache AS held (model, parameters, content_hash, vector, tokens)
SELECT %(model)s, %(parameters)s, content_hash, vector, tokens
FROM unnest(%(hashes)b::bytea[], %(vectors)b::bytea[], %(tokens)s::integer[]) AS come (content_hash, vector, tokens)
ORDER BY content_hash
ON CONFLICT (content_hash, model, parameters) DO UPDATE
SET vector = EXCLUDED.vector, tokens = EXCLUDED.tokens, claimed_by = NULL
WHERE held.vector IS NULL;

-- name: give_up_vectors
-- There will be no vector from this claimant; whoever waits for it may ask itself.
DELETE FROM embedq.vector_cache AS held
USING (
    SELECT content_hash
    FROM embedq.vector_cache
    WHERE model = %(model)s AND parameters = %(parameters)s AND content_hash = ANY (%(hashes)b)
      AND claimed_by = %(claimant)s
    ORDER BY content_hash
    FOR UPDATE
) AS mine
WHERE held.model = %(model)s AND held.parameters = %(parameters)s AND held.content_hash = mine.content_hash;

-- name: begin_claimant
-- A process may claim from now on; seconds.
INSERT INTO embedq.vector_claimant (name, alive_until) VALUES (%(claimant)s, now() + %(life)s * interval '1 second');

-- name: renew_claimant
-- True where it was in time; else its claims may be others' already, and it stays lapsed.
UPDATE embedq.vector_claimant
SET alive_until = now() + %(life)s * interval '1 second'
WHERE name = %(claimant)s AND alive_until > now()
RETURNING true;

-- name: end_claimant
-- All its claims lapse now.
DELETE FROM embedq.vector_claimant WHERE name = %(claimant)s;

-- name: forget_unused_vectors
-- Up to 1,000 vectors, and claims whose claimant is gone, that were not used for so many days. One more, because a use is
-- written once a day. Several processes may do it at a time.
DELETE FROM embedq.vector_cache
WHERE ctid = ANY (ARRAY(
    SELECT held.ctid
    FROM embedq.vector_cache AS held
    WHERE held.used_at < now() - (%(days)s + 1) * interval '1 day'
      AND NOT EXISTS (SELECT FROM embedq.vector_claimant WHERE name = held.claimed_by AND alive_until > now())
    LIMIT 1000
    FOR UPDATE OF held SKIP LOCKED
));

-- name: forget_claimants
-- Those that ended without saying so; a claimant that has no row is as gone as one that lapsed.
DELETE FROM embedq.vector_claimant WHERE alive_until < now() - interval '1 day';
