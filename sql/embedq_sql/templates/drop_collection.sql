-- What templates/collection.sql made. Without CASCADE: a view that somebody built on the table stops it.
-- table and search (function) are qualified names, type is vector or halfvec.
DROP FUNCTION IF EXISTS {search}({type}, integer);
DROP TABLE IF EXISTS {table};
