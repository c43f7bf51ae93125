-- What is near to some ids and far from others: the nearest items to where the liked point, without those given.
-- A vector of zeros points nowhere: it has no distance (NaN).
-- Plpgsql, and bound late: functions of a collection can be dropped in any order.
CREATE OR REPLACE FUNCTION {function}(
    liked text[], disliked text[] DEFAULT '{{}}', k integer DEFAULT 10, disliked_weight double precision DEFAULT 0.2
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    given CONSTANT text[] := liked || disliked;
    taste {table}.{vector}%TYPE;
    before jsonb;
BEGIN
    IF NOT coalesce(disliked_weight >= 0::float8 AND disliked_weight < 'infinity', false) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'disliked_weight is not a number from 0 up',
            HINT = 'Give 0 to leave the disliked out of it.';
    END IF;
    before := embedq.use_settings(jsonb_build_object('search_path', {path}));
    WITH asked AS (
        -- One vector an id, however many rows its text became.
        SELECT stored.{key} = ANY (liked::{key_type}[]) AS is_liked,
               stored.{key} = ANY (disliked::{key_type}[]) AS is_disliked,
               embedq.mean_direction(array_agg(embedq.unit_vector(stored.{vector}))) AS direction
        FROM {table} AS stored
        WHERE stored.{key} = ANY (given::{key_type}[]) AND stored.{vector} <=> stored.{vector} < 'NaN'
        GROUP BY stored.{key}
    )
    SELECT embedq.rocchio(
        array_agg(asked.direction) FILTER (WHERE asked.is_liked),
        array_agg(asked.direction) FILTER (WHERE asked.is_disliked), disliked_weight)
    INTO taste
    FROM asked;
    IF taste <=> taste = 'NaN' THEN
        RAISE data_exception USING MESSAGE = 'the liked and the disliked cancel each other out',
            HINT = 'Give a lower disliked_weight, or other ids.';
    END IF;
    RETURN QUERY
        SELECT near.*
        FROM {documents}(taste, least(k + cardinality(given)::bigint, 2147483647)::integer) AS near
        WHERE near.distance < 'NaN' AND near.id <> ALL (ARRAY(
            SELECT DISTINCT {id} FROM {table} AS stored WHERE stored.{key} = ANY (given::{key_type}[])))
        ORDER BY near.distance, near.id
        LIMIT k;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}(text[], text[], integer, double precision) IS 'embedq: the k ids nearest to the mean of liked ids minus a weight of the mean of disliked ones, each by its nearest row, nearest first; never one of those given.';
