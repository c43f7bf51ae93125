-- Rename an index while others read and write. index is a qualified name, name the new plain one.
ALTER INDEX {index} RENAME TO {name};
