-- The rows of a source in byte order of their ids. source_query gives them; source_metadata, source_version are columns or null.
SELECT source.id::text COLLATE "C" AS id, source.text::text AS text,
       {source_metadata} AS metadata, {source_version} AS version,
       hashtextextended(coalesce({source_metadata}, '{{}}') COLLATE "C", 0) AS metadata_hash
FROM (
{source_query}
) AS source
ORDER BY 1;
