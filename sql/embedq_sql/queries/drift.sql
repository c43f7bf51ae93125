-- The drift check. Who writes a model's vectors holds the lock on its row in embedq.drift.

-- name: drift_states
-- The last check of each model and size that a collection uses or moves to; whether another is wanted, due, or under way.
SELECT used.model, used.dimensions, held.distance, held.checked_at, held.drifts_since, held.first_at,
       coalesce(held.parameters <> held.first_parameters, false) AS is_changed_here,
       coalesce(held.wanted_at > coalesce(held.checked_at, '-infinity'), false) AS is_wanted,
       coalesce(held.checked_at < now() - make_interval(secs => %(every)s), true) AS is_due,
       coalesce(held.claimed_until > now(), false) AS is_claimed
FROM (
    SELECT model, dimensions FROM embedq.collection
    UNION
    SELECT model, dimensions FROM embedq.shadow
) AS used
LEFT JOIN embedq.drift AS held ON held.model = used.model AND held.dimensions = used.dimensions
ORDER BY used.model, used.dimensions;

-- name: claim_drift_check
-- True for one process of the fleet: unless another is at it, or has ended a check since the asker looked. The claim lapses
-- by itself after so many seconds.
INSERT INTO embedq.drift AS held (model, dimensions, claimed_until)
VALUES (%(model)s, %(dimensions)s, now() + make_interval(secs => %(life)s))
ON CONFLICT (model, dimensions) DO UPDATE
SET claimed_until = EXCLUDED.claimed_until
WHERE coalesce(held.claimed_until < now(), true) AND held.checked_at IS NOT DISTINCT FROM %(checked_at)s
RETURNING true;

-- name: want_drift_check
-- Now, also if a check has failed a moment ago. Of each size that is in use; returns how many.
WITH wanted AS (
    INSERT INTO embedq.drift AS held (model, dimensions, wanted_at)
    SELECT model, dimensions, now() FROM embedq.collection WHERE model = %(model)s
    UNION
    SELECT model, dimensions, now() FROM embedq.shadow WHERE model = %(model)s
    ON CONFLICT (model, dimensions) DO UPDATE
    SET wanted_at = EXCLUDED.wanted_at, claimed_until = NULL
    RETURNING true
)
SELECT count(*) FROM wanted;

-- name: lock_drift
-- Until the transaction ends nobody else writes these vectors. Whether the last check found a drift.
SELECT drifts_since IS NOT NULL
FROM embedq.drift
WHERE model = %(model)s AND dimensions = %(dimensions)s
FOR UPDATE;

-- name: first_drift_vectors
-- What the texts' vectors are compared with; a text that is new has none.
SELECT content_hash, first
FROM embedq.drift_vector
WHERE model = %(model)s AND dimensions = %(dimensions)s AND content_hash = ANY (%(hashes)b);

-- name: keep_drift_vectors
-- The vectors of a check; the first one of a text stays.
INSERT INTO embedq.drift_vector AS held (model, dimensions, content_hash, first, latest)
SELECT %(model)s, %(dimensions)s, content_hash, vector, vector AS latest
FROM unnest(%(hashes)b::bytea[], %(vectors)b::bytea[]) AS come (content_hash, vector)
ON CONFLICT (model, dimensions, content_hash) DO UPDATE
SET latest = EXCLUDED.latest;

-- name: end_drift_check
-- What it found. Returns whether what shapes the vectors here is other than it was for the first ones.
UPDATE embedq.drift
SET claimed_until = NULL, checked_at = now(), distance = %(distance)s,
    drifts_since = CASE WHEN %(drifts)s THEN coalesce(drifts_since, now()) END,
    first_at = coalesce(first_at, now()), first_parameters = coalesce(first_parameters, %(parameters)s),
    parameters = %(parameters)s
WHERE model = %(model)s AND dimensions = %(dimensions)s
RETURNING parameters <> first_parameters;

-- name: accept_drift
-- What the last check found is what later ones are compared with; accept_drift_vectors in the same transaction.
UPDATE embedq.drift
SET distance = 0, drifts_since = NULL, first_at = checked_at, first_parameters = parameters
WHERE model = %(model)s AND checked_at IS NOT NULL;

-- name: accept_drift_vectors
-- Of all sizes of a model.
UPDATE embedq.drift_vector
SET first = latest
WHERE model = %(model)s;
