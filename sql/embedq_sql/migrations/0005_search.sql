-- Searching with a metadata filter and a generation by a collection's name, and what the functions of collections share.

CREATE TYPE embedq.hit AS (
    id text,
    chunk integer,
    content text,
    metadata jsonb,
    distance double precision
);
COMMENT ON TYPE embedq.hit IS 'A row that was found; what the search functions of collections return first.';

CREATE FUNCTION embedq.use_settings(settings jsonb)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    before jsonb := '{}';
    setting record;
BEGIN
    FOR setting IN SELECT key, value FROM jsonb_each_text(settings) LOOP
        before := before || jsonb_build_object(setting.key, current_setting(setting.key, true));
        PERFORM set_config(setting.key, setting.value, true);
    END LOOP;
    RETURN before;
END
$$;
COMMENT ON FUNCTION embedq.use_settings IS 'Sets settings for the rest of the transaction and returns what they were, for a second call that sets them back. A function''s SET clause would keep it from being restored from a dump by other than superusers.';

-- What functions of collections set whose body is parsed when it runs: hence the search path, of Postgres' own names and
-- pgvector's. An index scan may give more than hnsw.ef_search rows, and the planner is kept to an index that there is: that long
-- vectors are stored apart from their rows, and cost far more to read, it does not know. No plan is kept, for it would outlive
-- the settings.
CREATE FUNCTION embedq.use_index(path text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN embedq.use_settings(jsonb_build_object(
        'search_path', path, 'plan_cache_mode', 'force_custom_plan', 'hnsw.iterative_scan', 'strict_order',
        'enable_seqscan', NOT current_setting('enable_indexscan')::boolean));
END
$$;
COMMENT ON FUNCTION embedq.use_index IS 'Sets what a search through an index needs for the rest of the transaction and returns what the settings were, as use_settings does.';

CREATE FUNCTION embedq.refuse_filter(collection text)
RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
BEGIN
    RAISE feature_not_supported USING
        MESSAGE = format('collection %L has no metadata that a filter could look at', collection),
        HINT = 'Leave the filter out, or write the query out with a WHERE on the columns of its table.';
END
$$;
COMMENT ON FUNCTION embedq.refuse_filter IS 'The error of a filter on an own table without metadata.';

DROP FUNCTION embedq.search(text, vector, integer);
CREATE FUNCTION embedq.search(
    collection text, query vector, k integer DEFAULT 10, filter jsonb DEFAULT NULL, generation integer DEFAULT NULL
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
DECLARE
    registered embedq.collection;
    given integer := cardinality(query::real[]);  -- a cast needs no search path, unlike vector_dims
    indexscan CONSTANT text := current_setting('enable_indexscan');
    asked text;
    before jsonb;
    hits embedq.hit[];
BEGIN
    SELECT c.* INTO registered FROM embedq.collection AS c WHERE c.name = search.collection;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('there is no collection %L', collection),
            HINT = 'SELECT name FROM embedq.collection lists them.';
    END IF;
    IF given <> registered.dimensions THEN
        RAISE data_exception USING MESSAGE = format('the vectors of collection %L have %s dimensions, the query has %s',
            collection, registered.dimensions, given);
    END IF;
    IF filter IS NOT NULL AND registered.metadata_column IS NULL THEN
        PERFORM embedq.refuse_filter(collection);
    END IF;
    IF filter IS NOT NULL THEN
        RETURN QUERY EXECUTE format('SELECT * FROM %I.%I($1, $2, $3, $4)',
            registered.table_schema, registered.name || '_search_where') USING query, filter, k, generation;
        RETURN;
    END IF;
    -- An HNSW scan ends after hnsw.ef_search rows (40), fewer than k may ask for, unless it may go on. And the planner does
    -- not know that long vectors are stored apart from their rows, and cost far more to read.
    before := embedq.use_settings(jsonb_build_object(
        'hnsw.iterative_scan', 'strict_order', 'enable_seqscan', NOT current_setting('enable_indexscan')::boolean));
    asked := format('SELECT ARRAY(SELECT ROW(found.*)::embedq.hit FROM %I.%I($1, $2, $3) AS found)',
        registered.table_schema, registered.name || '_search');
    EXECUTE asked INTO hits USING query, k, generation;
    IF coalesce(cardinality(hits) < k, true) THEN  -- the index gave up, or there are no more: then this is quick
        PERFORM embedq.use_settings('{"enable_indexscan": "off", "enable_seqscan": "on"}');
        EXECUTE asked INTO hits USING query, k, generation;
        PERFORM embedq.use_settings(jsonb_build_object('enable_indexscan', indexscan));
    END IF;
    PERFORM embedq.use_settings(before);
    RETURN QUERY SELECT * FROM unnest(hits);
END
$$;
COMMENT ON FUNCTION embedq.search IS 'The k rows of a collection nearest to a vector by cosine distance, nearest first, for a collection that is only known when the query runs. With a filter, of those whose metadata contain it. k rows even where k is above hnsw.ef_search.';

-- With the rights of its caller: with its owner's it told anybody which collections there are.
CREATE OR REPLACE FUNCTION embedq.check_generation(collection_id integer, held integer, generation integer)
RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
DECLARE
    named text := 'the collection';  -- to whom may not read the registry it says no more
    model text := '';
BEGIN
    IF held = check_generation.generation THEN
        RETURN true;
    END IF;
    IF has_table_privilege('embedq.collection', 'SELECT') THEN
        SELECT format('collection %L', c.name), format(' (model %s)', c.model) INTO named, model
        FROM embedq.collection AS c WHERE c.id = check_generation.collection_id;
    END IF;
    RAISE data_exception USING
        MESSAGE = format('the query vector is of generation %s, %s holds generation %s%s',
            check_generation.generation, named, held, model),
        HINT = 'Embed the query again: its vector and those in the table come from different models.';
END
$$;
COMMENT ON FUNCTION embedq.check_generation IS 'True, or an error that says that a query vector comes from another model than a collection''s vectors, whose generation the calling function was made with. Whoever may search need not read the registry; who may is told the collection''s name and model.';
