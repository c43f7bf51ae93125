-- The likeliest label of each row that has none. Where few rows are labelled, each is compared with all of these: to find the
-- nearest of them by classify, row by row, would take a scan of the table each. Of more than 1,000, and a hundredth of the table,
-- the index finds some soon. OFFSET 0: the vector is read once. A vector of zeros has no distance (NaN).
-- Plpgsql, and bound late: functions of a collection can be dropped in any order.
CREATE OR REPLACE FUNCTION {function}(label_key text, k integer DEFAULT 10, filter jsonb DEFAULT NULL)
RETURNS TABLE (
    id text, chunk integer, content text, metadata jsonb, distance double precision, label text, confidence double precision
)
LANGUAGE plpgsql STABLE ROWS 1000
AS $$
#variable_conflict use_variable
DECLARE
    few bigint;
    before jsonb;
BEGIN
    before := embedq.use_settings(jsonb_build_object('search_path', {path}));
    few := greatest(1000, (SELECT held.reltuples / 100::real FROM pg_class AS held WHERE held.oid = {relation}::regclass));
    IF (SELECT count(*) <= few
        FROM (SELECT FROM {table} AS stored WHERE {metadata} ->> label_key IS NOT NULL LIMIT few + 1) AS labelled) THEN
        RETURN QUERY
            WITH labelled AS MATERIALIZED (
                SELECT {id} AS id, {chunk} AS chunk, {metadata} ->> label_key AS label,
                       embedq.unit_vector(stored.{vector}) AS direction
                FROM {table} AS stored
                WHERE {metadata} ->> label_key IS NOT NULL AND stored.{vector} <=> stored.{vector} < 'NaN'
            )
            SELECT other.id, other.chunk, other.content, other.metadata, best.distance, best.label, best.confidence
            FROM (
                SELECT {id}, {chunk}, {content}, {metadata}, embedq.unit_vector(stored.{vector})
                FROM {table} AS stored
                WHERE {metadata} ->> label_key IS NULL AND (filter IS NULL OR {metadata} @> filter)
                  AND stored.{vector} <=> stored.{vector} < 'NaN'
                OFFSET 0
            ) AS other (id, chunk, content, metadata, direction)
            CROSS JOIN LATERAL (
                SELECT array_agg(one.label ORDER BY one.distance, one.id, one.chunk) AS labels,
                       array_agg(one.distance ORDER BY one.distance, one.id, one.chunk) AS distances
                FROM (
                    SELECT labelled.*, labelled.direction <=> other.direction AS distance
                    FROM labelled
                    ORDER BY (labelled.direction <=> other.direction) + 0, labelled.id, labelled.chunk
                    LIMIT k
                ) AS one
            ) AS near
            CROSS JOIN LATERAL (
                SELECT one.* FROM embedq.vote(near.labels, near.distances, k) AS one ORDER BY one.confidence DESC, one.label LIMIT 1
            ) AS best;
    ELSE
        RETURN QUERY
            SELECT {id}, {chunk}, {content}, {metadata}, best.distance, best.label, best.confidence
            FROM {table} AS stored
            CROSS JOIN LATERAL (
                SELECT one.* FROM {classify}(stored.{vector}, label_key, k) AS one ORDER BY one.confidence DESC, one.label LIMIT 1
            ) AS best
            WHERE {metadata} ->> label_key IS NULL AND (filter IS NULL OR {metadata} @> filter)
              AND stored.{vector} IS NOT NULL;
    END IF;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}(text, integer, jsonb) IS 'embedq: each row whose metadata lacks the key, with the likeliest label, its confidence and the distance to the nearest row with that label; or of these the rows whose metadata holds the filter.';
