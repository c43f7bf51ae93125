-- How far rows are from their neighbours, which the search finds for each. Rows of the same id are no neighbours of each other:
-- chunks of one text are alike, so as many more are asked for as there are. A vector of zeros has no distance (NaN).
-- Plpgsql, and bound late: functions of a collection can be dropped in any order.
CREATE OR REPLACE FUNCTION {function}(k integer DEFAULT 10, ids text[] DEFAULT NULL)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision, furthest double precision)
LANGUAGE plpgsql STABLE ROWS 1000
AS $$
#variable_conflict use_variable
DECLARE
    before jsonb;
BEGIN
    before := embedq.use_index({path});
    RETURN QUERY
        SELECT {id}, {chunk}, {content}, {metadata}, near.mean, near.furthest
        FROM {table} AS stored
        CROSS JOIN LATERAL (
            SELECT count(*) AS siblings FROM {table} AS sibling WHERE sibling.{key} = stored.{key}
        ) AS counted
        CROSS JOIN LATERAL (
            SELECT avg(other.distance) AS mean, max(other.distance) AS furthest
            FROM (SELECT one.distance
                  FROM {search_many}(ARRAY[stored.{vector}], least(k + counted.siblings, 2147483647)::integer) AS one
                  WHERE one.id <> {id} AND one.distance < 'NaN'
                  ORDER BY one.distance
                  LIMIT k) AS other
        ) AS near
        WHERE (ids IS NULL OR stored.{key} = ANY (ids::{key_type}[])) AND near.mean IS NOT NULL
        ORDER BY 5 DESC, 1, 2;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}(integer, text[]) IS 'embedq: rows by their mean cosine distance to the k nearest rows of other ids (and to the furthest of these), the most lonely first; of all ids or of those given.';
