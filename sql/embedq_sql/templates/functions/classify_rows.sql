-- The likeliest label of each row that has none, by classify. Plpgsql, and bound late: functions of a collection can be dropped
-- in any order.
CREATE OR REPLACE FUNCTION {function}(label_key text, k integer DEFAULT 10, filter jsonb DEFAULT NULL)
RETURNS TABLE (
    id text, chunk integer, content text, metadata jsonb, distance double precision, label text, confidence double precision
)
LANGUAGE plpgsql STABLE ROWS 1000
AS $$
#variable_conflict use_variable
DECLARE
    before jsonb;
BEGIN
    before := embedq.use_settings(jsonb_build_object('search_path', {path}));
    RETURN QUERY
        SELECT {id}, {chunk}, {content}, {metadata}, best.distance, best.label, best.confidence
        FROM {table} AS stored
        CROSS JOIN LATERAL (
            SELECT one.* FROM {classify}(stored.{vector}, label_key, k) AS one ORDER BY one.confidence DESC, one.label LIMIT 1
        ) AS best
        WHERE {metadata} ->> label_key IS NULL AND (filter IS NULL OR {metadata} @> filter)
          AND stored.{vector} IS NOT NULL;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}(text, integer, jsonb) IS 'embedq: each row whose metadata lacks the key, with the likeliest label, its confidence and the distance to the nearest row with that label; or of these the rows whose metadata holds the filter.';
