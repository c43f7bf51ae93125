-- The nearest rows.
-- Plain enough for the planner to inline, so that it sees the index and the caller's WHERE and JOIN: one SELECT, STABLE, no
-- SET, not STRICT. order is what the index serves, candidates how many rows are taken from it: of a quantised index more than k,
-- and these are ranked again by the vectors. Of any other the outer half costs nothing: Postgres sees that the order is the same.
-- Arguments are composed with the function's name before them, as a column of an own table may be called so.
-- The body is parsed here and now: no search path of a caller changes what it means.
-- PARALLEL RESTRICTED lets the planner look at what it has inlined, which may be parallel. SAFE would vouch for the policies of
-- the table as well.
CREATE OR REPLACE FUNCTION {function}(query {type}, k integer DEFAULT 10, generation integer DEFAULT NULL)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 10
BEGIN ATOMIC
    SELECT near.id, near.chunk, near.content, near.metadata, near.distance
    FROM (
        SELECT {id} AS id, {chunk} AS chunk, {content} AS content, {metadata} AS metadata,
               stored.{vector} <=> {query} AS distance
        FROM {table} AS stored
        WHERE stored.{vector} IS NOT NULL AND {query} IS NOT NULL
          AND ({generation} IS NULL OR embedq.check_generation({collection_id}, {held}, {generation}))
        ORDER BY {order}
        LIMIT {candidates}
    ) AS near
    ORDER BY near.distance
    LIMIT {k};
END;
COMMENT ON FUNCTION {function}({type}, integer, integer) IS 'embedq: the k rows nearest to a vector by cosine distance, nearest first. With the vector''s generation, one of another model is refused.';
