-- Which label a vector has, by its nearest labelled rows: those whose metadata has the key. The search is asked for more and
-- more rows; where labels are too rare for it, all labelled rows are compared: OFFSET 0 keeps an index out of an order that
-- must be exact. A vector of zeros has no distance (NaN).
-- Plpgsql, and bound late: functions of a collection can be dropped in any order.
CREATE OR REPLACE FUNCTION {function}(
    query {type}, label_key text, k integer DEFAULT 10, generation integer DEFAULT NULL
)
RETURNS TABLE (label text, confidence double precision, neighbours integer, distance double precision)
LANGUAGE plpgsql STABLE ROWS 3
AS $$
#variable_conflict use_variable
DECLARE
    labels text[];
    distances double precision[];
    asked integer := 4 * least(greatest(k, 1), 1000);
    scanned integer;
    before jsonb;
BEGIN
    before := embedq.use_index({path});
    LOOP
        SELECT array_agg(near.metadata ->> label_key ORDER BY near.distance, near.id, near.chunk)
                   FILTER (WHERE near.metadata ->> label_key IS NOT NULL AND near.distance < 'NaN'),
               array_agg(near.distance ORDER BY near.distance, near.id, near.chunk)
                   FILTER (WHERE near.metadata ->> label_key IS NOT NULL AND near.distance < 'NaN'),
               count(*)
        INTO labels, distances, scanned
        FROM {search}(query, asked, generation) AS near;
        EXIT WHEN coalesce(cardinality(labels) >= k, k IS NULL) OR scanned < asked OR asked >= 1000;
        asked := asked * 4;
    END LOOP;
    IF coalesce(cardinality(labels) < k, true) THEN
        SELECT array_agg(near.label ORDER BY near.distance, near.id, near.chunk),
               array_agg(near.distance ORDER BY near.distance, near.id, near.chunk)
        INTO labels, distances
        FROM (
            SELECT compared.*
            FROM (
                SELECT {metadata} ->> label_key AS label, {id} AS id, {chunk} AS chunk, stored.{vector} <=> query AS distance
                FROM {table} AS stored
                WHERE {metadata} ->> label_key IS NOT NULL AND stored.{vector} IS NOT NULL
                OFFSET 0
            ) AS compared
            WHERE compared.distance < 'NaN'
            ORDER BY compared.distance, compared.id, compared.chunk
            LIMIT k
        ) AS near;
    END IF;
    RETURN QUERY SELECT * FROM embedq.vote(labels, distances, k);
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}({type}, text, integer, integer) IS 'embedq: the labels (values of a metadata key) of the k labelled rows nearest to a vector, likeliest first. Each row counts with 1 / its distance; confidence is a label''s share. With the vector''s generation, one of another model is refused.';
