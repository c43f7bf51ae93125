-- The HNSW index of a collection, while others read and write. Not inside a transaction.
-- index is its plain name, table a qualified one, operators vector_cosine_ops or halfvec_cosine_ops; m is the number of
-- neighbours a row, ef_construction that of the candidates looked at for each.
CREATE INDEX CONCURRENTLY {index} ON {table} USING hnsw (embedding {operators})
WITH (m = {m}, ef_construction = {ef_construction});
