-- What is near to some ids and far from others: the nearest items to where the liked point, without those given.
-- Plpgsql, and bound late: functions of a collection can be dropped in any order.
CREATE OR REPLACE FUNCTION {function}(
    liked text[], disliked text[] DEFAULT '{{}}', k integer DEFAULT 10, disliked_weight double precision DEFAULT 0.2
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    taste {table}.{vector}%TYPE;
BEGIN
    WITH asked AS (
        -- One vector an id, however many rows its text became.
        SELECT stored.{key} = ANY (liked::{key_type}[]) AS is_liked,
               stored.{key} = ANY (disliked::{key_type}[]) AS is_disliked,
               embedq.mean_direction(array_agg(embedq.unit_vector(stored.{vector}))) AS direction
        FROM {table} AS stored
        WHERE stored.{key} = ANY ((liked || disliked)::{key_type}[]) AND stored.{vector} IS NOT NULL
        GROUP BY stored.{key}
    )
    SELECT embedq.rocchio(
        array_agg(asked.direction) FILTER (WHERE asked.is_liked),
        array_agg(asked.direction) FILTER (WHERE asked.is_disliked), disliked_weight)
    INTO taste
    FROM asked;
    IF embedq.cosine_distance(taste, taste) = 'NaN' THEN
        RAISE data_exception USING MESSAGE = 'the liked and the disliked cancel each other out',
            HINT = 'Give a lower disliked_weight, or other ids.';
    END IF;
    IF taste IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT near.*
        FROM {documents}(taste, k + cardinality(liked || disliked)) AS near
        WHERE near.id <> ALL (ARRAY(
            SELECT DISTINCT {id} FROM {table} AS stored WHERE stored.{key} = ANY ((liked || disliked)::{key_type}[])))
        ORDER BY near.distance, near.id
        LIMIT k;
END
$$;
COMMENT ON FUNCTION {function}(text[], text[], integer, double precision) IS 'embedq: the k ids nearest to the mean of liked ids minus a weight of the mean of disliked ones, each by its nearest row, nearest first; never one of those given.';
