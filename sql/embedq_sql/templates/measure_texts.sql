-- Rows of a collection, the bytes of their texts, and the UTF-16 units of the longest: a character beyond U+FFFF is two.
SELECT count(*), coalesce(sum(octet_length(content)), 0)::bigint,
       coalesce(max(char_length(content) + CASE WHEN octet_length(content) = char_length(content) THEN 0
                                           ELSE char_length(regexp_replace(content, '[\U00000001-\U0000FFFF]', '', 'g')) END), 0)
FROM {table};
