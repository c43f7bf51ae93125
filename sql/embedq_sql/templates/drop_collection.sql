-- What templates/collection.sql made. Without CASCADE: a view that somebody built on the table stops it.
-- table is a qualified name.
DROP TABLE IF EXISTS {table};
