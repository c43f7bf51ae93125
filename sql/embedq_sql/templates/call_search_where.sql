-- A collection's own search among the rows that match a filter, without the texts.
-- function is its qualified name, type is vector or halfvec.
SELECT id, chunk, distance FROM {function}(%(query)s::{type}, %(filter)s::jsonb, %(k)s::integer);
