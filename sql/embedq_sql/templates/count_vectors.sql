-- The rows of a table, and those of them that have a vector, counted up to a limit. table is a qualified name, vectors the
-- column, number tells it from the other tables of one statement.
SELECT {number} AS number, count(*) AS every, count({vectors}) AS filled
FROM (SELECT {vectors} FROM {table} LIMIT %(limit)s) AS few;
