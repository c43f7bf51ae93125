-- The HNSW index of a collection, while others read and write. Not inside a transaction.
-- index is its plain name, table a qualified one, key what it holds of a row with the class of the operators, in brackets; m is
-- the number of neighbours a row, ef_construction that of the candidates looked at for each.
CREATE INDEX CONCURRENTLY {index} ON {table} USING hnsw {key}
WITH (m = {m}, ef_construction = {ef_construction});
