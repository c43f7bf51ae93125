-- Whether a row has no vector in a column.
SELECT EXISTS (SELECT FROM {table} WHERE {shadow} IS NULL);
