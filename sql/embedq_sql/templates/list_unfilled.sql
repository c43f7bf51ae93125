-- The next ids with rows that have no vector in a column, after an id or from the first one, and the bytes of these rows' texts.
SELECT id, sum(octet_length(content))::bigint
FROM {table}
WHERE {shadow} IS NULL AND (%(after)s::text IS NULL OR id > %(after)s)
GROUP BY id
ORDER BY id
LIMIT %(limit)s;
