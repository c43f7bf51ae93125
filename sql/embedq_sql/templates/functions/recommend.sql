-- What is near to some ids and far from others. Candidates come from the search, more of them until k other ids were found.
-- Plpgsql, and bound late: functions of a collection can be dropped in any order.
CREATE OR REPLACE FUNCTION {function}(
    liked text[], disliked text[] DEFAULT '{{}}', k integer DEFAULT 10, disliked_weight double precision DEFAULT 0.2
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
DECLARE
    taste {table}.{vector}%TYPE;
    seen text[];  -- as the table writes them
    wanted integer;
    scanned integer;
    found integer := 0;
    scan text := coalesce(nullif(current_setting('hnsw.iterative_scan', true), ''), 'off');
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
    seen := ARRAY(SELECT {id} FROM {table} AS stored WHERE stored.{key} = ANY ((liked || disliked)::{key_type}[]));
    wanted := k + cardinality(seen);
    PERFORM set_config('hnsw.iterative_scan', 'strict_order', true);
    LOOP
        scanned := 0;
        FOR id, chunk, content, metadata, distance IN
            SELECT near.id, near.chunk, near.content, near.metadata, near.distance
            FROM {search}(taste, wanted) AS near WHERE near.distance IS NOT NULL
        LOOP
            EXIT WHEN found >= k;
            scanned := scanned + 1;
            CONTINUE WHEN id = ANY (seen);
            found := found + 1;
            seen := seen || id;
            RETURN NEXT;
        END LOOP;
        EXIT WHEN found >= k OR scanned < wanted;
        wanted := wanted * 2;
    END LOOP;
    PERFORM set_config('hnsw.iterative_scan', scan, true);
END
$$;
COMMENT ON FUNCTION {function}(text[], text[], integer, double precision) IS 'embedq: the k ids nearest to the mean of liked ids minus a weight of the mean of disliked ones, each by its nearest row, nearest first; never one of those given.';
