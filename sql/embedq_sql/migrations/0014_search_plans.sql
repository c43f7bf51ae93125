-- Searches that read every row may be parallel and are never compiled; vectors without a distance are near to none.

-- What functions of collections set whose body is parsed when it runs: hence the search path, of Postgres' own names and
-- pgvector's. An index scan may give more than hnsw.ef_search rows, and the planner is kept to an index that there is: that long
-- vectors are stored apart from their rows, and cost far more to read, it does not know. No plan is kept, for it would outlive
-- the settings. None is compiled (jit), which takes longer than many a search: before Postgres 18 a scan that is switched off,
-- and taken where there is no index, was so dear by the planner's reckoning that this seemed worth it.
CREATE OR REPLACE FUNCTION embedq.use_index(path text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN embedq.use_settings(jsonb_build_object(
        'search_path', path, 'plan_cache_mode', 'force_custom_plan', 'hnsw.iterative_scan', 'strict_order',
        'enable_seqscan', NOT current_setting('enable_indexscan')::boolean, 'jit', 'off'));
END
$$;
COMMENT ON FUNCTION embedq.use_index IS 'Sets what a search through an index needs for the rest of the transaction and returns what the settings were, as use_settings does.';

CREATE OR REPLACE FUNCTION embedq.refuse_filter(collection text)
RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
BEGIN
    RAISE feature_not_supported USING
        MESSAGE = format('collection %L has no metadata that a filter could look at', collection),
        HINT = 'Leave the filter out, or write the query out with a WHERE on the columns of its table.';
END
$$;
COMMENT ON FUNCTION embedq.refuse_filter IS 'The error of a filter on an own table without metadata.';

CREATE OR REPLACE FUNCTION embedq.search(
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
    -- An HNSW scan ends after hnsw.ef_search rows (40), fewer than k may ask for, unless it may go on. The rest is as in use_index.
    before := embedq.use_settings(jsonb_build_object(
        'hnsw.iterative_scan', 'strict_order', 'enable_seqscan', NOT current_setting('enable_indexscan')::boolean,
        'jit', 'off'));
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

-- held is a literal of the function that calls it: the function and the column that it reads change in one step, whereas the
-- registry is read by a snapshot that may be older.
CREATE OR REPLACE FUNCTION embedq.check_generation(collection_id integer, held integer, generation integer)
RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog
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

CREATE FUNCTION embedq.vote(labels text[], distances double precision[], k integer)
RETURNS TABLE (label text, confidence double precision, neighbours integer, distance double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 3
BEGIN ATOMIC
    SELECT one.label, one.weight / sum(one.weight) OVER () AS confidence, one.neighbours, one.distance
    FROM (SELECT near.label, sum(1::float8 / greatest(near.distance, 1e-6::float8)) AS weight, count(*)::integer AS neighbours,
                 min(near.distance) AS distance
          FROM (SELECT * FROM unnest(labels, distances) LIMIT k) AS near (label, distance)
          GROUP BY near.label) AS one
    ORDER BY confidence DESC, one.label ASC;
END;
COMMENT ON FUNCTION embedq.vote IS 'The labels of the first k neighbours, likeliest first: each counts with 1 / its distance, and confidence is a label''s share.';

CREATE OR REPLACE FUNCTION embedq.mmr(query vector, candidates vector[], k integer, lambda double precision DEFAULT 0.5)
RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
DECLARE
    to_query double precision[] := embedq.cosine_distances(candidates, query);
    to_picks double precision[];  -- of each candidate to the nearest pick; null before the first
    picks integer[] := '{}';
    pick integer;
BEGIN
    IF lambda IS NULL OR lambda NOT BETWEEN 0 AND 1 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('lambda is %s', coalesce(lambda::text, 'null')),
            HINT = 'Give a number from 0 (as different as can be) to 1 (as near as can be).';
    END IF;
    WHILE cardinality(picks) < least(k, cardinality(candidates)) LOOP
        SELECT each.number INTO pick
        FROM unnest(to_query, to_picks) WITH ORDINALITY AS each (to_query, to_picks, number)
        WHERE each.number <> ALL (picks) AND each.to_query < 'NaN'
        ORDER BY lambda * (1 - each.to_query) - (1 - lambda) * (1 - coalesce(each.to_picks, 1)) DESC, each.number
        LIMIT 1;
        EXIT WHEN NOT FOUND;  -- what is left has no distance: null, or a vector of zeros (NaN)
        picks := picks || pick;
        SELECT array_agg(least(each.before, each.to_pick) ORDER BY each.number) INTO to_picks
        FROM unnest(to_picks, embedq.cosine_distances(candidates, candidates[pick]))
            WITH ORDINALITY AS each (before, to_pick, number);
    END LOOP;
    RETURN picks;
END
$$;
COMMENT ON FUNCTION embedq.mmr IS 'Picks k candidates, by number, one after the other: each time the one with the most lambda · similarity to the query − (1 − lambda) · similarity to the nearest pick (maximal marginal relevance; Carbonell and Goldstein 1998). Similarity is 1 − cosine distance.';

CREATE OR REPLACE FUNCTION embedq.nearest_clusters(
    collection text, name text, query vector, k integer DEFAULT 1, generation integer DEFAULT NULL
)
RETURNS TABLE (cluster integer, distance double precision)
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    chosen record;
BEGIN
    PERFORM embedq.check_generation(registered.id, registered.generation, generation) WHERE generation IS NOT NULL;
    SELECT current.* INTO chosen FROM embedq.current_clustering(registered, name) AS current;
    RETURN QUERY
        SELECT near.cluster, near.distance
        FROM embedq.nearest_centroids(query, chosen.centroids, k) AS near
        WHERE near.distance < 'NaN';  -- a vector that is null or of zeros is near to none
END
$$;
COMMENT ON FUNCTION embedq.nearest_clusters IS 'The k clusters whose centroids are nearest to a vector, nearest first. With the vector''s generation, one of another model is refused.';
