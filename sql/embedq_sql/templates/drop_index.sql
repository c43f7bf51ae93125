-- Drop an index while others read and write. Not inside a transaction. index is a qualified name.
DROP INDEX CONCURRENTLY IF EXISTS {index};
