-- How far rows are from the middle of all, or of a group. Exact: every row of the group is read. A vector of zeros has no
-- distance (NaN).
-- The argument is composed with the function's name before it, as a column of an own table may be called so.
CREATE OR REPLACE FUNCTION {function}(filter jsonb DEFAULT NULL)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 1000
BEGIN ATOMIC
    WITH centre AS MATERIALIZED (
        SELECT avg(embedq.unit_vector(stored.{vector})) AS direction
        FROM {table} AS stored
        WHERE {filter} IS NULL OR {passes}
    )
    SELECT far.*
    FROM (
        SELECT {id}, {chunk}, {content}, {metadata}, embedq.unit_vector(stored.{vector}) <=> centre.direction
        FROM {table} AS stored CROSS JOIN centre
        WHERE ({filter} IS NULL OR {passes}) AND stored.{vector} IS NOT NULL
    ) AS far (id, chunk, content, metadata, distance)
    WHERE far.distance < 'NaN'
    ORDER BY 5 DESC, 1, 2;
END;
COMMENT ON FUNCTION {function}(jsonb) IS 'embedq: rows by their cosine distance to the mean of all rows, the furthest first; or of the rows whose metadata holds the filter.';
