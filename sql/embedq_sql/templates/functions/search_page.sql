-- The nearest rows page by page: the rows after a place, where the row before was.
-- The first rows in question are the depth nearest by the index, the same ones for every page; all others come after them, by
-- an exact order. So on an unchanged table each row comes exactly once, whatever the index misses. Rows as far away as the last
-- of the first count as others: which of several at one distance come first is chance. A page begins after a row and not after
-- a number of rows, so that rows which come and go meanwhile do not shift it.
-- Where rows beyond the greatest distance were found, the index has given all before it, and no others are looked for.
-- The rows that the index finds depend on hnsw.ef_search, so this is set besides what a search through an index needs. A place
-- says a distance in all its digits. OFFSET 0 keeps the index out of the exact order.
CREATE OR REPLACE FUNCTION {function}(
    query {type}, k integer DEFAULT 10, max_distance double precision DEFAULT NULL, after jsonb DEFAULT NULL,
    depth integer DEFAULT 200, generation integer DEFAULT NULL
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision, place jsonb)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    is_first CONSTANT boolean := coalesce(after ->> 0 = 'first', true);
    after_distance CONSTANT double precision := after ->> 1;
    after_id CONSTANT text := after ->> 2;
    after_chunk CONSTANT integer := after ->> 3;
    farthest CONSTANT double precision := coalesce(max_distance, 'infinity');
    horizon double precision;
    given bigint := 0;
    before jsonb;
    nearest embedq.hit[];
BEGIN
    IF generation IS NOT NULL THEN
        -- To name the table holds its columns where they are, whatever this body was made for.
        PERFORM embedq.check_generation({collection_id}, {holds}(), generation)
        FROM (SELECT count(*) FROM (SELECT FROM {table} LIMIT 0) AS none) AS held;
    END IF;
    IF after IS NOT NULL AND (after_distance IS NULL OR after_id IS NULL OR after_chunk IS NULL) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'after is not the place of a row',
            HINT = 'Give the column place of the last row of the page before, unchanged.';
    END IF;
    before := embedq.use_index({path}) || embedq.use_settings(jsonb_build_object(
        'hnsw.ef_search', least(greatest(depth, nullif(current_setting('hnsw.ef_search', true), '')::integer, 1), 1000),
        'extra_float_digits', 1));
    nearest := ARRAY(SELECT ROW(found.*)::embedq.hit FROM {search}(query, depth) AS found);
    SELECT max(found.distance) INTO horizon FROM unnest(nearest) AS found;
    IF is_first THEN
        RETURN QUERY
            SELECT found.*, jsonb_build_array('first', found.distance, found.id, found.chunk)
            FROM unnest(nearest) AS found
            WHERE found.distance < horizon AND found.distance <= farthest
              AND (after IS NULL OR (found.distance, found.id, found.chunk) > (after_distance, after_id, after_chunk))
            ORDER BY found.distance, found.id, found.chunk
            LIMIT k;
        GET DIAGNOSTICS given = ROW_COUNT;
    END IF;
    IF coalesce(given < k, true) AND NOT coalesce(horizon > farthest, false) THEN
        RETURN QUERY
            SELECT other.*, jsonb_build_array('other', other.distance, other.id, other.chunk)
            FROM (
                SELECT {id}, {chunk}, {content}, {metadata}, stored.{vector} <=> query
                FROM {table} AS stored
                WHERE stored.{vector} IS NOT NULL AND query IS NOT NULL
                OFFSET 0
            ) AS other (id, chunk, content, metadata, distance)
            WHERE other.distance <= farthest
              AND (is_first OR (other.distance, other.id, other.chunk) > (after_distance, after_id, after_chunk))
              AND NOT EXISTS (
                  SELECT FROM unnest(nearest) AS found
                  WHERE found.id = other.id AND found.chunk = other.chunk AND found.distance < horizon
              )
            ORDER BY other.distance, other.id, other.chunk
            LIMIT k - given;
    END IF;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}({type}, integer, double precision, jsonb, integer, integer) IS 'embedq: the k rows nearest to a vector by cosine distance after a place (the column place of the last row of the page before), up to a greatest distance. Over all pages each row comes once. Rows after the first depth take longer, as all are compared. With the vector''s generation, one of another model is refused.';
