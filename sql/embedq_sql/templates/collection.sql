-- A collection's own table and search function, made by `embedq collection create`.
-- table and search (function) are qualified names, metadata_index and primary_key plain ones; type is vector or halfvec,
-- dimensions the size of a vector, about the table's comment.
-- No index on the vectors yet: a bulk load into an HNSW index is many times slower than building it afterwards.

CREATE TABLE {table} (
    id text COLLATE "C" NOT NULL,
    chunk integer NOT NULL DEFAULT 0,
    content text NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{{}}',
    embedding {type}({dimensions}) NOT NULL,
    version bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT {primary_key} PRIMARY KEY (id, chunk)
);

-- For metadata @> '…', the containment operator.
CREATE INDEX {metadata_index} ON {table} USING gin (metadata jsonb_path_ops);

COMMENT ON TABLE {table} IS {about};
COMMENT ON COLUMN {table}.id IS 'The item''s id.';
COMMENT ON COLUMN {table}.chunk IS 'Which part of the item''s text, from 0.';
COMMENT ON COLUMN {table}.content IS 'The text.';
COMMENT ON COLUMN {table}.metadata IS 'What the producer gave along.';
COMMENT ON COLUMN {table}.embedding IS 'The text''s vector.';
COMMENT ON COLUMN {table}.version IS 'The version that was stored.';
COMMENT ON COLUMN {table}.updated_at IS 'When it was stored.';

-- Plain enough for the planner to inline, so that it sees the index and the caller's WHERE and JOIN: one SELECT, STABLE, no
-- SET, not STRICT. The body is parsed here and now: no search path of a caller changes what it means.
CREATE FUNCTION {search}(query {type}, k integer DEFAULT 10)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE sql STABLE ROWS 10
BEGIN ATOMIC
    SELECT stored.id, stored.chunk, stored.content, stored.metadata, stored.embedding <=> query
    FROM {table} AS stored
    ORDER BY stored.embedding <=> query
    LIMIT k;
END;
COMMENT ON FUNCTION {search} IS 'The k rows nearest to a vector by cosine distance, nearest first.';
