-- The nearest rows for certain: run with enable_indexscan off, for the vector index gives them by and large.
-- table is a qualified name; id, chunk, vector and metadata are those of a row, type is vector or halfvec.
SELECT {id}, {chunk}, {vector} <=> %(query)s::{type}
FROM {table} AS stored
WHERE {vector} IS NOT NULL AND (%(filter)s::jsonb IS NULL OR {metadata} @> %(filter)s::jsonb)
ORDER BY {vector} <=> %(query)s::{type}
LIMIT %(k)s;
