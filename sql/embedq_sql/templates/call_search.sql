-- A collection's own search, without the texts. function is its qualified name, type is vector or halfvec.
SELECT id, chunk, distance FROM {function}(%(query)s::{type}, %(k)s::integer);
