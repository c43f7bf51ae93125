-- Rows that have no vector in a column.
SELECT count(*) FROM {table} WHERE {shadow} IS NULL;
