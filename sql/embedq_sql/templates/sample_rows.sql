-- Stored rows as queries: few blocks, spread over the table, and of their rows some at random. The same ones again while the
-- table stays as it is, so that two measurements can be compared.
-- table is a qualified name; id, chunk and vector are those of a row.
SELECT drawn.id, drawn.chunk, drawn.vector::text
FROM (
    SELECT {id} AS id, {chunk} AS chunk, {vector} AS vector
    FROM {table} AS stored TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (1)
    WHERE {vector} IS NOT NULL
    ORDER BY hashtextextended({id}, 1), {chunk}
    LIMIT %(rows)s
) AS drawn;
