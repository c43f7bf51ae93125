-- The nearest of the rows whose metadata contain a filter: never fewer than there are, up to k.
-- An index scan filters what it finds, so a filter that few rows pass, or only rows that are far away, would leave it with
-- fewer than k. So the matches are counted first, as far as it matters: few of them are compared one by one; for many the
-- index goes on until it has k, and where it gives up before that (hnsw.max_scan_tuples, memory), all matches are compared
-- after all. GIN finds all matches before it gives the first; where these may be very many, some rows are looked at before.
-- The settings choose the plan, for the planner guesses how many rows a jsonb filter passes, often badly.
-- The settings include a search path, as the body is parsed when it runs, and no plan is kept, for it would outlive the
-- settings. OFFSET 0 keeps the vector index out of an order that must be exact.
CREATE OR REPLACE FUNCTION {function}(
    query {type}, filter jsonb, k integer DEFAULT 10, generation integer DEFAULT NULL
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    compared CONSTANT bigint := greatest(k, 1000);
    is_frequent boolean := coalesce(filter = '{{}}', true);
    before jsonb;
    plan_before jsonb;
    hits embedq.hit[];
BEGIN
    IF generation IS NOT NULL THEN
        -- To name the table holds its columns where they are, whatever this body was made for.
        PERFORM embedq.check_generation({collection_id}, {holds}(), generation)
        FROM (SELECT count(*) FROM (SELECT FROM {table} LIMIT 0) AS none) AS held;
    END IF;
    before := embedq.use_settings(jsonb_build_object(
        'search_path', {path}, 'plan_cache_mode', 'force_custom_plan', 'hnsw.iterative_scan', 'strict_order',
        'enable_seqscan', 'off', 'jit', 'off'));
    IF NOT is_frequent
       AND (SELECT held.reltuples > 500000::real FROM pg_class AS held WHERE held.oid = {relation}::regclass) THEN
        SELECT count(*) > compared INTO is_frequent
        FROM (
            SELECT FROM (SELECT {metadata} AS metadata FROM {table} AS stored LIMIT 10000) AS first
            WHERE first.metadata @> filter
            LIMIT compared + 1
        ) AS few;
    END IF;
    IF NOT is_frequent THEN
        SELECT count(*) > compared INTO is_frequent
        FROM (SELECT FROM {table} AS stored WHERE {metadata} @> filter LIMIT compared + 1) AS few;
    END IF;
    IF is_frequent AND current_setting('enable_indexscan')::boolean THEN
        plan_before := embedq.use_settings('{{"enable_bitmapscan": "off"}}');
        hits := ARRAY(
            SELECT near.hit
            FROM (
                SELECT ROW({id}, {chunk}, {content}, {metadata}, stored.{vector} <=> query)::embedq.hit AS hit
                FROM {table} AS stored
                WHERE (filter IS NULL OR {metadata} @> filter) AND stored.{vector} IS NOT NULL AND query IS NOT NULL
                ORDER BY {order}
                LIMIT {candidates}
            ) AS near
            ORDER BY (near.hit).distance
            LIMIT k
        );
        PERFORM embedq.use_settings(plan_before);
    END IF;
    IF coalesce(cardinality(hits) < k, true) THEN
        hits := ARRAY(
            SELECT ROW(matching.*)::embedq.hit
            FROM (
                SELECT {id}, {chunk}, {content}, {metadata}, stored.{vector} <=> query AS distance
                FROM {table} AS stored
                WHERE (filter IS NULL OR {metadata} @> filter) AND stored.{vector} IS NOT NULL AND query IS NOT NULL
                OFFSET 0
            ) AS matching
            ORDER BY matching.distance
            LIMIT k
        );
    END IF;
    PERFORM embedq.use_settings(before);
    RETURN QUERY SELECT * FROM unnest(hits);
END
$$;
COMMENT ON FUNCTION {function}({type}, jsonb, integer, integer) IS 'embedq: the k rows nearest to a vector by cosine distance of those whose metadata contain a filter, nearest first; never fewer than there are. With the vector''s generation, one of another model is refused.';
