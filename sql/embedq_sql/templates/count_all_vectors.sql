-- The rows of a table that have a vector, every one: where one of another model's would do harm an estimate is not enough.
-- table is a qualified name, vectors the column.
SELECT count({vectors}) FROM {table};
