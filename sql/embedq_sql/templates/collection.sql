-- A collection's own table, made by `embedq collection create`.
-- table is a qualified name, metadata_index and primary_key are plain ones; type is vector or halfvec, dimensions the size
-- of a vector, about the table's comment.
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
