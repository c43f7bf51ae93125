-- A collection moves to another model while it is read and written: both models' vectors stand in its table meanwhile.

-- Without its default: since 17.12 and its siblings, Postgres adds no column with one to a table whose row type is an
-- argument of a function with a parsed body (rows_query).
ALTER TABLE embedq.collection ADD COLUMN newest_generation integer;
UPDATE embedq.collection SET newest_generation = generation;
ALTER TABLE embedq.collection ALTER COLUMN newest_generation SET DEFAULT 1, ALTER COLUMN newest_generation SET NOT NULL;
COMMENT ON COLUMN embedq.collection.newest_generation IS 'The highest generation ever given: that of a successor that was abandoned is not given again.';

CREATE TABLE embedq.shadow (
    collection_id integer PRIMARY KEY REFERENCES embedq.collection ON DELETE CASCADE,
    generation integer NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    vector_type text NOT NULL CHECK (vector_type IN ('vector', 'halfvec')),
    column_name text NOT NULL,
    state text NOT NULL CHECK (state IN ('next', 'previous')),
    filled_to text COLLATE "C",
    started_at timestamptz NOT NULL DEFAULT now(),
    switched_at timestamptz
);
COMMENT ON TABLE embedq.shadow IS 'The other model of a collection that moves from one to another: its vectors stand in a column of their own, and each write keeps both.';
COMMENT ON COLUMN embedq.shadow.collection_id IS 'embedq.collection.id; a collection moves to one model at a time.';
COMMENT ON COLUMN embedq.shadow.generation IS 'The generation of these vectors.';
COMMENT ON COLUMN embedq.shadow.model IS 'The model''s id in the catalogue.';
COMMENT ON COLUMN embedq.shadow.dimensions IS 'The size of its vectors.';
COMMENT ON COLUMN embedq.shadow.vector_type IS 'vector or halfvec.';
COMMENT ON COLUMN embedq.shadow.column_name IS 'The column of the collection''s table that holds them; null where they are still to come.';
COMMENT ON COLUMN embedq.shadow.state IS 'next: the model that the collection moves to; previous: the one that it came from, until that is finished.';
COMMENT ON COLUMN embedq.shadow.filled_to IS 'Rows up to this id were enqueued to be filled in the present pass; null before its first.';
COMMENT ON COLUMN embedq.shadow.started_at IS 'When the move began.';
COMMENT ON COLUMN embedq.shadow.switched_at IS 'When the two models last changed places.';

COMMENT ON COLUMN embedq.dead_letter.class IS 'text: of this text; row: of this row; successor: its item is stored, but the model that the collection moves to refuses the text; not_a_job; killer: it killed its worker.';
