-- The cache of vectors, and who is getting those that are not there yet.

-- A row is a vector, or the claim of a process that is getting it: so that one statement finds the one or makes the other,
-- and of several processes exactly one wins.
CREATE TABLE embedq.vector_cache (
    model text COLLATE "C" NOT NULL,
    parameters text COLLATE "C" NOT NULL,
    content_hash bytea NOT NULL,
    vector bytea,
    tokens integer,
    claimed_by text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (content_hash, model, parameters),  -- the hash first: no plan reads all of a model's
    CHECK ((vector IS NULL) <> (claimed_by IS NULL))
);
ALTER TABLE embedq.vector_cache ALTER COLUMN vector SET STORAGE EXTERNAL;  -- floats do not shrink: trying costs time
CREATE INDEX vector_cache_used_at_idx ON embedq.vector_cache (used_at);  -- for what forgets
COMMENT ON TABLE embedq.vector_cache IS 'Vectors by what they were made of, for the same text again; empty unless vector_cache_days is set. Derived from texts: whoever may not read these should not read it.';
COMMENT ON COLUMN embedq.vector_cache.model IS 'The model''s id in the catalogue.';
COMMENT ON COLUMN embedq.vector_cache.parameters IS 'What else shapes the vector, as JSON: service, dimensions, purpose, prefix, further fields of the request.';
COMMENT ON COLUMN embedq.vector_cache.content_hash IS 'SHA-256 of the text''s UTF-8.';
COMMENT ON COLUMN embedq.vector_cache.vector IS 'Little-endian float32, four bytes a dimension; null while it is only claimed.';
COMMENT ON COLUMN embedq.vector_cache.tokens IS 'Tokens that it cost; 0 if the service did not say.';
COMMENT ON COLUMN embedq.vector_cache.claimed_by IS 'embedq.vector_claimant.name of who is getting the vector; no other asks for the text while that lives.';
COMMENT ON COLUMN embedq.vector_cache.created_at IS 'When it was first asked for.';
COMMENT ON COLUMN embedq.vector_cache.used_at IS 'When it was used last, to a day: a use is written once a day at most.';

CREATE TABLE embedq.vector_claimant (
    name text COLLATE "C" PRIMARY KEY,
    alive_until timestamptz NOT NULL
);
COMMENT ON TABLE embedq.vector_claimant IS 'Worker processes that hold claims in embedq.vector_cache. One row is renewed, however many claims there are.';
COMMENT ON COLUMN embedq.vector_claimant.name IS 'Made up when a process begins to claim, and again whenever it was not renewed in time.';
COMMENT ON COLUMN embedq.vector_claimant.alive_until IS 'When its claims lapse unless it is renewed.';
