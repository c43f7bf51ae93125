-- The next ids with rows that have no vector in a column, after an id or from the first one, and the bytes of these rows' texts.
-- Rows stored just now are left out: the worker that stored them may have their vectors on the way.
SELECT id, sum(octet_length(content))::bigint
FROM {table}
WHERE {shadow} IS NULL AND updated_at < now() - make_interval(secs => %(young)s)
  AND (%(after)s::text IS NULL OR id > %(after)s)
GROUP BY id
ORDER BY id
LIMIT %(limit)s;
