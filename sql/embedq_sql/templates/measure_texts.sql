-- Rows of a collection, the bytes of their texts, and the characters (UTF-16 units at most) of the longest.
SELECT count(*), coalesce(sum(octet_length(content)), 0)::bigint, coalesce(max(char_length(content)), 0)
FROM {table};
