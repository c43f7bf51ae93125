-- The rows nearest to an item: a row is as far away as the nearest of the item's chunks is.
-- For each of these as many more candidates are taken as there are, for they are found first and are left out.
CREATE OR REPLACE FUNCTION {function}(item text, k integer DEFAULT 10)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    example CONSTANT {table}.{key}%TYPE := item;  -- a type by its name would need a search path here
    chunks bigint;
    before jsonb;
BEGIN
    before := embedq.use_index({path});
    SELECT count(*) INTO chunks
    FROM {table} AS stored WHERE stored.{key} = example AND stored.{vector} IS NOT NULL;
    RETURN QUERY
        SELECT near.*
        FROM (
            SELECT DISTINCT ON (found.id, found.chunk)
                   found.id, found.chunk, found.content, found.metadata, found.distance
            FROM {search_many}(
                ARRAY(SELECT stored.{vector} FROM {table} AS stored WHERE stored.{key} = example),
                least(k + chunks, 2147483647)::integer
            ) AS found
            WHERE found.id <> example::text
            ORDER BY found.id, found.chunk, found.distance
        ) AS near
        ORDER BY near.distance, near.id, near.chunk
        LIMIT k;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}(text, integer) IS 'embedq: the k rows nearest to an item by cosine distance, nearest first, without the item''s own; where it has several chunks, each row by the nearest of them. No rows for an item that is not there.';
