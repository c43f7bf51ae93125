-- The nearest chunk of each of the nearest items.
-- Several chunks of one item may come before the next item, so candidates are taken until there are k items among them, ten
-- times as many a turn. Where the index gives up before that, every row is compared: OFFSET 0 keeps it out of an order that
-- must be exact.
CREATE OR REPLACE FUNCTION {function}(query {type}, k integer DEFAULT 10, generation integer DEFAULT NULL)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    asked integer := 4 * greatest(least(k, 100000), 1);
    given bigint;
    before jsonb;
    hits embedq.hit[];
BEGIN
    IF generation IS NOT NULL THEN
        -- To name the table holds its columns where they are, whatever this body was made for.
        PERFORM embedq.check_generation({collection_id}, {holds}(), generation)
        FROM (SELECT count(*) FROM (SELECT FROM {table} LIMIT 0) AS none) AS held;
    END IF;
    before := embedq.use_index({path});
    LOOP
        SELECT array_agg(ROW(best.id, best.chunk, best.content, best.metadata, best.distance)::embedq.hit
                         ORDER BY best.distance, best.id), max(best.given)
        INTO hits, given
        FROM (
            SELECT *
            FROM (
                SELECT DISTINCT ON (near.id) near.*, count(*) OVER () AS given
                FROM {search}(query, asked) AS near
                ORDER BY near.id, near.distance, near.chunk
            ) AS items
            ORDER BY items.distance, items.id
            LIMIT k
        ) AS best;
        EXIT WHEN coalesce(given, 0) < asked OR coalesce(cardinality(hits) >= k, true);
        asked := 10 * asked;
    END LOOP;
    IF coalesce(cardinality(hits) < k, true) THEN
        hits := ARRAY(
            SELECT ROW(best.*)::embedq.hit
            FROM (
                SELECT DISTINCT ON (compared.id) compared.*
                FROM (
                    SELECT {id}, {chunk}, {content}, {metadata}, stored.{vector} <=> query
                    FROM {table} AS stored
                    WHERE stored.{vector} IS NOT NULL AND query IS NOT NULL
                    OFFSET 0
                ) AS compared (id, chunk, content, metadata, distance)
                ORDER BY compared.id, compared.distance, compared.chunk
            ) AS best
            ORDER BY best.distance, best.id
            LIMIT k
        );
    END IF;
    PERFORM embedq.use_settings(before);
    RETURN QUERY SELECT * FROM unnest(hits);
END
$$;
COMMENT ON FUNCTION {function}({type}, integer, integer) IS 'embedq: the k items nearest to a vector by cosine distance, nearest first, each with its nearest chunk; never fewer than there are. With the vector''s generation, one of another model is refused.';
