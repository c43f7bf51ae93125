-- Rows of a table, counted exactly up to a limit and read from the statistics above it. table is a qualified name.
SELECT CASE WHEN counted.rows > %(limit)s
            THEN greatest(counted.rows, pg_stat_get_live_tuples(%(table)s::regclass)) ELSE counted.rows END
FROM (SELECT count(*) AS rows FROM (SELECT FROM {table} LIMIT %(limit)s + 1) AS few) AS counted;
