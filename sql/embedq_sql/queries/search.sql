-- Searching by a vector.

-- name: search
-- The k rows of a collection nearest to a vector, given as text: [1,2,3].
SELECT id, chunk, content, metadata, distance
FROM embedq.search(%(collection)s, %(query)s::vector, %(k)s);
