-- The drift check: fixed texts are embedded again and again, and compared with their first vectors.

-- Whether a model is still the one that it was: vectors of a few fixed texts, the first ones and those of the last check. By
-- model and dimensions alone: another service under the same name is what the check is there to find.
CREATE TABLE embedq.drift (
    model text COLLATE "C" NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    wanted_at timestamptz,
    claimed_until timestamptz,
    checked_at timestamptz,
    distance double precision,
    drifts_since timestamptz,
    first_at timestamptz,
    first_parameters text,
    parameters text,
    PRIMARY KEY (model, dimensions)
);
COMMENT ON TABLE embedq.drift IS 'The last check of each model and size of vectors: how far its vectors of fixed texts are from its first ones.';
COMMENT ON COLUMN embedq.drift.model IS 'The model''s id in the catalogue.';
COMMENT ON COLUMN embedq.drift.dimensions IS 'The size of the vectors.';
COMMENT ON COLUMN embedq.drift.wanted_at IS 'When somebody last asked for a check out of turn.';
COMMENT ON COLUMN embedq.drift.claimed_until IS 'Until when no other process begins a check; null: none is under way.';
COMMENT ON COLUMN embedq.drift.checked_at IS 'When the last check ended; null before the first.';
COMMENT ON COLUMN embedq.drift.distance IS 'The greatest cosine distance, of all texts, between the vector of the last check and the first one.';
COMMENT ON COLUMN embedq.drift.drifts_since IS 'When a check first found more than drift_distance; null while none does.';
COMMENT ON COLUMN embedq.drift.first_at IS 'When the first vectors were made, or those that somebody accepted in their place.';
COMMENT ON COLUMN embedq.drift.first_parameters IS 'What shaped the first vectors besides the model, as in embedq.vector_cache.parameters.';
COMMENT ON COLUMN embedq.drift.parameters IS 'What shaped those of the last check.';

CREATE TABLE embedq.drift_vector (
    model text COLLATE "C" NOT NULL,
    dimensions integer NOT NULL,
    content_hash bytea NOT NULL,
    first bytea NOT NULL,
    latest bytea NOT NULL,
    PRIMARY KEY (model, dimensions, content_hash),
    FOREIGN KEY (model, dimensions) REFERENCES embedq.drift ON DELETE CASCADE
);
ALTER TABLE embedq.drift_vector ALTER COLUMN first SET STORAGE EXTERNAL;  -- floats do not shrink: trying costs time
ALTER TABLE embedq.drift_vector ALTER COLUMN latest SET STORAGE EXTERNAL;
COMMENT ON TABLE embedq.drift_vector IS 'The vectors of the fixed texts, which are part of embedq and in no collection.';
COMMENT ON COLUMN embedq.drift_vector.model IS 'embedq.drift.model.';
COMMENT ON COLUMN embedq.drift_vector.dimensions IS 'embedq.drift.dimensions.';
COMMENT ON COLUMN embedq.drift_vector.content_hash IS 'SHA-256 of the text''s UTF-8.';
COMMENT ON COLUMN embedq.drift_vector.first IS 'Little-endian float32, four bytes a dimension: what later ones are compared with.';
COMMENT ON COLUMN embedq.drift_vector.latest IS 'Likewise, of the last check; it becomes the first when somebody accepts it.';

CREATE OR REPLACE FUNCTION embedq.grant_worker(worker regrole)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM embedq.known_role(worker);
    PERFORM embedq.grant_usage(worker, nspname)
    FROM pg_namespace
    WHERE nspname = 'embedq' OR oid = (SELECT extnamespace FROM pg_extension WHERE extname = 'vector');
    PERFORM embedq.grant_on(worker, format('embedq.%I', relation)::regclass, privilege)
    FROM (
        VALUES ('collection', '{SELECT}'::text[]),
               ('shadow', '{SELECT}'),
               ('item', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('dead_letter', '{SELECT,INSERT,UPDATE}'),
               ('dead_letter_text', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('vector_cache', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('vector_claimant', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('usage', '{SELECT,INSERT,UPDATE}'),
               ('usage_report', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('budget', '{SELECT}'),
               ('usage_today', '{SELECT}'),
               ('drift', '{SELECT,INSERT,UPDATE}'),
               ('drift_vector', '{SELECT,INSERT,UPDATE}')
    ) AS needed (relation, privileges), unnest(privileges) AS privilege;
    -- Vectors land in a temporary table.
    IF NOT has_database_privilege(worker, current_database(), 'TEMPORARY') THEN
        PERFORM embedq.grant_or_tell(
            (SELECT datdba FROM pg_database WHERE datname = current_database()),
            format('GRANT TEMPORARY ON DATABASE %I TO %s', current_database(), worker)
        );
    END IF;
    PERFORM embedq.grant_writing(worker, name) FROM embedq.collection;
END
$$;
