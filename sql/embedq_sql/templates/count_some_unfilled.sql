-- Rows that have no vector in a column, counted up to a limit; number tells the table from the others of one statement.
SELECT {number} AS number, count(*) AS unfilled FROM (SELECT FROM {table} WHERE {shadow} IS NULL LIMIT %(limit)s) AS few;
