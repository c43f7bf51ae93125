-- Where a collection's vectors are, and how its texts are searched and cut: what search functions are made from.

ALTER TABLE embedq.collection
    ADD COLUMN table_name text,
    ADD COLUMN is_managed boolean NOT NULL DEFAULT true,
    ADD COLUMN key_column text NOT NULL DEFAULT 'id',
    ADD COLUMN key_type text NOT NULL DEFAULT 'text',
    ADD COLUMN vector_column text NOT NULL DEFAULT 'embedding',
    ADD COLUMN content_column text DEFAULT 'content',
    ADD COLUMN metadata_column text DEFAULT 'metadata',
    ADD COLUMN text_search text NOT NULL DEFAULT 'simple',
    ADD COLUMN quantization text NOT NULL DEFAULT 'none' CHECK (quantization IN ('none', 'halfvec', 'binary')),
    ADD COLUMN on_too_long text NOT NULL DEFAULT 'error' CHECK (on_too_long IN ('error', 'truncate', 'chunk')),
    ADD COLUMN chunk_tokens integer CHECK (chunk_tokens > 0),
    ADD COLUMN chunk_overlap integer CHECK (chunk_overlap >= 0 AND chunk_overlap < chunk_tokens);
UPDATE embedq.collection SET table_name = name;
ALTER TABLE embedq.collection ALTER COLUMN table_name SET NOT NULL;

COMMENT ON COLUMN embedq.collection.name IS 'Also the name of its queues, and the beginning of its functions'' names.';
COMMENT ON COLUMN embedq.collection.table_schema IS 'Where its table and its functions are.';
COMMENT ON COLUMN embedq.collection.table_name IS 'The name of its table; of one that embedq made, the collection''s.';
COMMENT ON COLUMN embedq.collection.is_managed IS 'embedq made the table and drops it; false: somebody''s own, of which only the vectors are written.';
COMMENT ON COLUMN embedq.collection.key_column IS 'The column that holds an item''s id.';
COMMENT ON COLUMN embedq.collection.key_type IS 'The type of that column, which ids are cast to.';
COMMENT ON COLUMN embedq.collection.vector_column IS 'The column that holds the vectors.';
COMMENT ON COLUMN embedq.collection.content_column IS 'The column that holds the texts; null where an own table has none.';
COMMENT ON COLUMN embedq.collection.metadata_column IS 'The jsonb column that filters look at; null where an own table has none.';
COMMENT ON COLUMN embedq.collection.text_search IS 'The configuration of full text search, as in pg_ts_config.';
COMMENT ON COLUMN embedq.collection.quantization IS 'What the vector index holds: none: the vectors; halfvec, binary: shorter ones, and results are ranked again by the vectors.';
COMMENT ON COLUMN embedq.collection.on_too_long IS 'A text longer than the model takes becomes a dead letter (error), is cut (truncate), or becomes several rows (chunk).';
COMMENT ON COLUMN embedq.collection.chunk_tokens IS 'Tokens of a chunk at most; null unless texts are chunked.';
COMMENT ON COLUMN embedq.collection.chunk_overlap IS 'Tokens that a chunk repeats of the one before; null unless texts are chunked.';

-- held is a literal of the function that calls it: the function and the column that it reads change in one step, whereas the
-- registry is read by a snapshot that may be older.
CREATE FUNCTION embedq.check_generation(collection_id integer, held integer, generation integer)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection;
BEGIN
    IF held = check_generation.generation THEN
        RETURN true;
    END IF;
    SELECT c.* INTO registered FROM embedq.collection AS c WHERE c.id = check_generation.collection_id;
    RAISE data_exception USING
        MESSAGE = format('the query vector is of generation %s, collection %L holds generation %s (model %s)',
            check_generation.generation, registered.name, registered.generation, registered.model),
        HINT = 'Embed the query again: its vector and those in the table come from different models.';
END
$$;
COMMENT ON FUNCTION embedq.check_generation IS 'True, or an error that says that a query vector comes from another model than a collection''s vectors, whose generation the calling function was made with. With the rights of its owner: whoever may search need not read the registry.';

-- Functions of collections are known by the beginning of their comments from now on; `embedq migrate` makes them anew.
DO $$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT to_regprocedure(format('%I.%I(%s, integer)', table_schema, name || '_search', vector_type))
        FROM embedq.collection
    LOOP
        IF made IS NOT NULL THEN
            EXECUTE format('COMMENT ON FUNCTION %s IS %L', made, 'embedq: the k rows nearest to a vector.');
        END IF;
    END LOOP;
END
$$;
