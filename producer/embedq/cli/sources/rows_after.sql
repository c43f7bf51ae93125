-- The same rows, those behind an id alone: where a load goes on.
SELECT *
FROM (
{asked}
) AS source
WHERE source.{id_column} > {last_id}
ORDER BY source.{id_column};
