-- Rows of a table that have a vector, counted exactly up to a limit; above it as many as the table has by the statistics. table
-- is a qualified name, vectors the column.
SELECT CASE WHEN counted.rows > %(limit)s
            THEN greatest(counted.rows, pg_stat_get_live_tuples(%(table)s::regclass)) ELSE counted.rows END
FROM (SELECT count(*) AS rows FROM (SELECT FROM {table} WHERE {vectors} IS NOT NULL LIMIT %(limit)s + 1) AS few) AS counted;
