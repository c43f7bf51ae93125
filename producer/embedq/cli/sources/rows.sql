-- The rows of somebody's query in the order of their ids, which are unique.
SELECT *
FROM (
{asked}
) AS source
ORDER BY source.{id_column};
