-- The index of full text search, while others read and write. Not inside a transaction.
-- index is its plain name, table a qualified one, text_search the configuration, content the column of texts. The expression is
-- the very one that the functions match by, or they would not use it.
CREATE INDEX CONCURRENTLY {index} ON {table} USING gin (to_tsvector({text_search}::regconfig, {content}::text));
