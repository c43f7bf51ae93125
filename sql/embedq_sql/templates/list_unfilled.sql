-- The next ids with rows that have no vector in a column, after an id or from the first one, and the bytes of these rows' texts.
-- Rows stored just now are left out: the worker that stored them may have their vectors on the way; and those whose text the
-- model has refused since then: OFFSET 0 has a letter looked for by each row's id, or all letters would be read for each page.
SELECT stored.id, sum(octet_length(stored.content))::bigint
FROM {table} AS stored
WHERE stored.{shadow} IS NULL AND stored.updated_at < now() - make_interval(secs => %(young)s)
  AND (%(after)s::text IS NULL OR stored.id > %(after)s)
  AND NOT EXISTS (
      SELECT FROM embedq.dead_letter AS letter
      WHERE letter.collection = %(collection)s AND letter.item_id = stored.id COLLATE "default"
        AND letter.version = stored.version AND letter.class = 'successor' AND letter.last_at >= %(since)s
      OFFSET 0)
GROUP BY stored.id
ORDER BY stored.id
LIMIT %(limit)s;
