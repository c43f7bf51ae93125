-- Searching by a vector.

-- name: search
-- The k rows of a collection nearest to a vector, given as text: [1,2,3]. With a filter, of those whose metadata contain it.
SELECT id, chunk, content, metadata, distance
FROM embedq.search(%(collection)s, %(query)s::vector, %(k)s, %(filter)s::jsonb, %(generation)s);
