-- The names of a source's columns; source_query is not run.
SELECT *
FROM (
{source_query}
) AS source
LIMIT 0;
