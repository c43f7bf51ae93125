-- The labelled rows of a clustering, as far as they are there and the caller may see them.
-- These labels are chosen before their ids become keys: an id of another collection may be none.
-- The argument is composed with the function's name before it, as a column of an own table may be called so.
CREATE OR REPLACE FUNCTION {function}(clustering text)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision, cluster integer)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 1000
BEGIN ATOMIC
    WITH labels AS MATERIALIZED (
        SELECT member.id, member.chunk, member.cluster, member.distance
        FROM embedq.clustering AS made JOIN embedq.cluster_member AS member ON member.clustering_id = made.id
        WHERE made.collection_id = {collection_id} AND made.name = {clustering}
    )
    SELECT {id}, {chunk}, {content}, {metadata}, label.distance, label.cluster
    FROM labels AS label
    JOIN {table} AS stored ON {stored_key} = label.id::{key_type} AND {chunk} = label.chunk;
END;
COMMENT ON FUNCTION {function}(text) IS 'embedq: the rows of a clustering with their clusters and the distances to the centroids.';
