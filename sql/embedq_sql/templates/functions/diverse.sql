-- Rows that are near to a vector and different from each other: picked among the nearest that the search finds.
-- A vector of zeros has no distance (NaN).
-- Plpgsql, and bound late: functions of a collection can be dropped in any order.
CREATE OR REPLACE FUNCTION {function}(
    query {type}, k integer DEFAULT 10, lambda double precision DEFAULT 0.5, candidates integer DEFAULT 50,
    generation integer DEFAULT NULL
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision, pick integer)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    before jsonb;
BEGIN
    before := embedq.use_index({path});
    RETURN QUERY
        WITH found AS MATERIALIZED (
            SELECT near.*, row_number() OVER (ORDER BY near.distance, near.id, near.chunk) AS number
            FROM {search_many}(ARRAY[query], greatest(candidates, k), generation) AS near
            WHERE near.distance < 'NaN'
        ), vectors AS (
            SELECT array_agg(embedq.unit_vector(stored.{vector}) ORDER BY found.number) AS candidates
            FROM found JOIN {table} AS stored ON stored.{key} = found.id::{key_type} AND {chunk} = found.chunk
        ), picked AS (
            SELECT one.number, one.pick::integer
            FROM vectors CROSS JOIN LATERAL
                unnest(embedq.mmr(embedq.unit_vector(query), vectors.candidates, k, lambda)) WITH ORDINALITY AS one (number, pick)
        )
        SELECT found.id, found.chunk, found.content, found.metadata, found.distance, picked.pick
        FROM picked JOIN found ON found.number = picked.number
        ORDER BY picked.pick
        LIMIT k;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}({type}, integer, double precision, integer, integer) IS 'embedq: k of the candidates nearest to a vector, picked so that they differ (maximal marginal relevance): lambda 1 is nearness alone, 0 difference alone. In the order in which they were picked. With the vector''s generation, one of another model is refused.';
