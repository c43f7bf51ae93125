-- The nearest rows of each of several queries, one index scan a query.
-- The settings include a search path, as the body is parsed when it runs, and let an index scan give more than
-- hnsw.ef_search rows.
CREATE OR REPLACE FUNCTION {function}(queries {type}[], k integer DEFAULT 10, generation integer DEFAULT NULL)
RETURNS TABLE (
    id text, chunk integer, content text, metadata jsonb, distance double precision, ordinality bigint
)
LANGUAGE plpgsql STABLE ROWS 100
AS $$
#variable_conflict use_variable
DECLARE
    before jsonb;
BEGIN
    IF generation IS NOT NULL THEN
        PERFORM embedq.check_generation({collection_id}, generation);
    END IF;
    before := embedq.use_settings(jsonb_build_object('search_path', {path}, 'hnsw.iterative_scan', 'strict_order'));
    RETURN QUERY
        SELECT found.*, asked.ordinality
        FROM unnest(queries) WITH ORDINALITY AS asked (query, ordinality)
        CROSS JOIN LATERAL {search}(asked.query, k) AS found
        WHERE asked.query IS NOT NULL
        ORDER BY asked.ordinality, found.distance;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}({type}[], integer, integer) IS 'embedq: the k rows nearest to each of several vectors by cosine distance, and which vector it was, counted from 1; in the order of the vectors, nearest first. With the vectors'' generation, those of another model are refused.';
