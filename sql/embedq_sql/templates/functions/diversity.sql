-- How different some ids are. A vector of zeros has no direction.
-- Plpgsql, and bound late: functions of a collection can be dropped in any order.
CREATE OR REPLACE FUNCTION {function}(ids text[])
RETURNS double precision
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_variable
DECLARE
    before jsonb;
    diversity double precision;
BEGIN
    before := embedq.use_settings(jsonb_build_object('search_path', {path}));
    diversity := embedq.diversity(ARRAY(
        -- One vector an id, however many rows its text became.
        SELECT embedq.mean_direction(array_agg(embedq.unit_vector(stored.{vector})))
        FROM {table} AS stored
        WHERE stored.{key} = ANY (ids::{key_type}[]) AND stored.{vector} <=> stored.{vector} < 'NaN'
        GROUP BY stored.{key}));
    PERFORM embedq.use_settings(before);
    RETURN diversity;
END
$$;
COMMENT ON FUNCTION {function}(text[]) IS 'embedq: the mean cosine distance of all pairs of these ids, exact. Null for fewer than two that exist.';
