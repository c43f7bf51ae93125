-- For rows taken by chance: how many of the k nearest rows by one column of vectors are among the k nearest by the other, as a
-- share of k, or of all rows where they are fewer. The rows themselves are left out.
WITH sample AS MATERIALIZED (
    SELECT id, chunk, {vector} AS one, {shadow} AS other
    FROM {table}
    WHERE {shadow} IS NOT NULL
    ORDER BY random()
    LIMIT %(sample)s
), by_one AS MATERIALIZED (
    SELECT sample.id AS of_id, sample.chunk AS of_chunk, near.id, near.chunk
    FROM sample CROSS JOIN LATERAL (
        SELECT stored.id, stored.chunk
        FROM {table} AS stored
        WHERE stored.{shadow} IS NOT NULL AND (stored.id, stored.chunk) <> (sample.id, sample.chunk)
        ORDER BY stored.{vector} <=> sample.one
        LIMIT %(k)s
    ) AS near
), by_other AS MATERIALIZED (
    SELECT sample.id AS of_id, sample.chunk AS of_chunk, near.id, near.chunk
    FROM sample CROSS JOIN LATERAL (
        SELECT stored.id, stored.chunk
        FROM {table} AS stored
        WHERE (stored.id, stored.chunk) <> (sample.id, sample.chunk)
        ORDER BY stored.{shadow} <=> sample.other
        LIMIT %(k)s
    ) AS near
)
SELECT count(by_other.of_id)::float8 / nullif(count(by_one.of_id), 0), (SELECT count(*) FROM sample)
FROM by_one LEFT JOIN by_other USING (of_id, of_chunk, id, chunk);
