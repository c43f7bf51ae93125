-- From now on no row may lack a vector in a column; rows that are there are looked at later, while others read and write.
ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {proof};
ALTER TABLE {table} ADD CONSTRAINT {proof} CHECK ({vector} IS NOT NULL) NOT VALID;
