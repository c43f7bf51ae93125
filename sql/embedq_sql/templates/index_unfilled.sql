-- The rows that have no vector in a column: those to be filled, found and counted without reading the others. Not inside a
-- transaction.
CREATE INDEX CONCURRENTLY {index} ON {table} (id, chunk) WHERE {shadow} IS NULL;
