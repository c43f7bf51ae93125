-- A collection without rows, for tests. table is a qualified name.
TRUNCATE {table};
