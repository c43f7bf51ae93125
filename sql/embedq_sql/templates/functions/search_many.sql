-- The nearest rows of each of several queries, one index scan a query. Where that gives fewer than k, every row is compared:
-- OFFSET 0 keeps the index out of an order that must be exact.
CREATE OR REPLACE FUNCTION {function}(queries {type}[], k integer DEFAULT 10, generation integer DEFAULT NULL)
RETURNS TABLE (
    id text, chunk integer, content text, metadata jsonb, distance double precision, ordinality bigint
)
LANGUAGE plpgsql STABLE ROWS 100
AS $$
#variable_conflict use_variable
DECLARE
    query {table}.{vector}%TYPE;  -- a type by its name would need a search path here
    before jsonb;
    hits embedq.hit[];
BEGIN
    IF generation IS NOT NULL THEN
        -- To name the table holds its columns where they are, whatever this body was made for.
        PERFORM embedq.check_generation({collection_id}, {holds}(), generation)
        FROM (SELECT count(*) FROM (SELECT FROM {table} LIMIT 0) AS none) AS held;
    END IF;
    ordinality := 0;
    before := embedq.use_index({path});
    FOREACH query IN ARRAY coalesce(queries, '{{}}') LOOP
        ordinality := ordinality + 1;
        CONTINUE WHEN query IS NULL;
        hits := ARRAY(SELECT ROW(found.*)::embedq.hit FROM {search}(query, k) AS found);
        IF coalesce(cardinality(hits) < k, true) THEN
            hits := ARRAY(
                SELECT ROW(compared.*)::embedq.hit
                FROM (
                    SELECT {id}, {chunk}, {content}, {metadata}, stored.{vector} <=> query AS distance
                    FROM {table} AS stored
                    WHERE stored.{vector} IS NOT NULL
                    OFFSET 0
                ) AS compared
                ORDER BY compared.distance
                LIMIT k
            );
        END IF;
        RETURN QUERY SELECT found.*, ordinality FROM unnest(hits) AS found;
    END LOOP;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}({type}[], integer, integer) IS 'embedq: the k rows nearest to each of several vectors by cosine distance, and which vector it was, counted from 1; in the order of the vectors, nearest first. With the vectors'' generation, those of another model are refused.';
