-- Rows that are near a vector, rows that match words, and both: fused by the ranks that they have in the two searches
-- (reciprocal rank fusion, Cormack et al. 2009, whose constant is 60).
-- Rows of equal distance or equal relevance have the same rank. The words are matched by the collection's configuration of
-- full text search, in the very expression that an index of it would have. Each search gives candidates to the other.
CREATE OR REPLACE FUNCTION {function}(
    query {type}, words text, k integer DEFAULT 10, vector_weight double precision DEFAULT 1,
    text_weight double precision DEFAULT 1, candidates integer DEFAULT 100, generation integer DEFAULT NULL
)
RETURNS TABLE (
    id text, chunk integer, content text, metadata jsonb, distance double precision,
    score double precision, vector_rank bigint, text_rank bigint
)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
#variable_conflict use_variable
DECLARE
    asked CONSTANT integer := greatest(k, candidates);
    asked_words tsquery;
    before jsonb;
BEGIN
    IF generation IS NOT NULL THEN
        -- To name the table holds its columns where they are, whatever this body was made for.
        PERFORM embedq.check_generation({collection_id}, {holds}(), generation)
        FROM (SELECT count(*) FROM (SELECT FROM {table} LIMIT 0) AS none) AS held;
    END IF;
    IF NOT coalesce(
        vector_weight >= 0::float8 AND text_weight >= 0::float8 AND vector_weight + text_weight < 'infinity', false
    ) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a weight is not a number from 0 up',
            HINT = 'Give 0 to leave a search out.';
    END IF;
    before := embedq.use_index({path});
    asked_words := websearch_to_tsquery({text_search}::regconfig, words);
    RETURN QUERY
        WITH near AS (
            SELECT found.*, rank() OVER (ORDER BY found.distance) AS place
            FROM {search_many}(ARRAY[query], asked) AS found
            WHERE vector_weight > 0::float8
        ), matching AS (
            SELECT best.*, best.vector <=> query AS distance, rank() OVER (ORDER BY best.relevance DESC) AS place
            FROM (
                SELECT matched.*
                FROM (
                    SELECT {id}, {chunk}, {content}, {metadata}, stored.{vector},
                           ts_rank_cd(to_tsvector({text_search}::regconfig, {content}), asked_words)
                    FROM {table} AS stored
                    WHERE to_tsvector({text_search}::regconfig, {content}) @@ asked_words
                      AND stored.{vector} IS NOT NULL AND query IS NOT NULL AND text_weight > 0::float8
                ) AS matched (id, chunk, content, metadata, vector, relevance)
                ORDER BY matched.relevance DESC, matched.id, matched.chunk
                LIMIT asked
            ) AS best
        ), fused AS (
            SELECT coalesce(near.id, matching.id) AS id, coalesce(near.chunk, matching.chunk) AS chunk,
                   coalesce(near.content, matching.content) AS content,
                   coalesce(near.metadata, matching.metadata) AS metadata,
                   coalesce(near.distance, matching.distance) AS distance,
                   coalesce(vector_weight / (60 + near.place)::float8, 0)
                       + coalesce(text_weight / (60 + matching.place)::float8, 0) AS score,
                   near.place AS vector_rank, matching.place AS text_rank
            FROM near FULL JOIN matching ON matching.id = near.id AND matching.chunk = near.chunk
        )
        SELECT fused.*
        FROM fused
        ORDER BY fused.score DESC, fused.distance, fused.id, fused.chunk
        LIMIT k;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION {function}({type}, text, integer, double precision, double precision, integer, integer) IS 'embedq: the k best rows by two searches, for a vector and for words (as in a web search: "quoted words", or, -not), best first. A row''s score is the sum of weight / (60 + rank) over both, of which each gives as many candidates as asked for. With the vector''s generation, one of another model is refused.';
