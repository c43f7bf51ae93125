-- The rows nearest to an item: a row is as far away as the nearest of the item's chunks is.
-- For each of these as many more candidates are taken as there are, for they are found first and are left out. Where that
-- leaves fewer than k, every row is compared: OFFSET 0 keeps the index out of an order that must be exact.
-- The settings include a search path, as the body is parsed when it runs, let an index scan give more than hnsw.ef_search
-- rows, and keep the planner to an index that there is: that long vectors are stored apart from their rows, and cost far
-- more to read, it does not know. No plan is kept, for it would outlive the settings.
CREATE OR REPLACE FUNCTION {function}(item text, k integer DEFAULT 10)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    key CONSTANT {table}.{key}%TYPE := item;  -- a type by its name would need a search path here
    chunks bigint;
    before jsonb;
    hits embedq.hit[];
BEGIN
    before := embedq.use_settings(jsonb_build_object(
        'search_path', {path}, 'plan_cache_mode', 'force_custom_plan', 'hnsw.iterative_scan', 'strict_order',
        'enable_seqscan', NOT current_setting('enable_indexscan')::boolean));
    SELECT count(*) INTO chunks
    FROM {table} AS stored WHERE stored.{key} = key AND stored.{vector} IS NOT NULL;
    hits := ARRAY(
        SELECT ROW(near.*)::embedq.hit
        FROM (
            SELECT DISTINCT ON (found.id, found.chunk) found.*
            FROM {table} AS stored
            CROSS JOIN LATERAL {search}(stored.{vector}, (k + chunks)::integer) AS found
            WHERE stored.{key} = key AND stored.{vector} IS NOT NULL AND found.id <> key::text
            ORDER BY found.id, found.chunk, found.distance
        ) AS near
        ORDER BY near.distance, near.id, near.chunk
        LIMIT k
    );
    IF chunks > 0 AND coalesce(cardinality(hits) < k, true) THEN
        hits := ARRAY(
            SELECT ROW(compared.*)::embedq.hit
            FROM (
                SELECT {id}, {chunk}, {content}, {metadata},
                       (SELECT min(stored.{vector} <=> example.{vector})
                        FROM {table} AS example WHERE example.{key} = key) AS distance
                FROM {table} AS stored
                WHERE stored.{key} <> key AND stored.{vector} IS NOT NULL
                OFFSET 0
            ) AS compared (id, chunk, content, metadata, distance)
            ORDER BY compared.distance, compared.id, compared.chunk
            LIMIT k
        );
    END IF;
    PERFORM embedq.use_settings(before);
    RETURN QUERY SELECT * FROM unnest(hits);
END
$$;
COMMENT ON FUNCTION {function}(text, integer) IS 'embedq: the k rows nearest to an item by cosine distance, nearest first, without the item''s own; where it has several chunks, each row by the nearest of them. No rows for an item that is not there.';
