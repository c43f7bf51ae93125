-- The constraint proves it: no row is looked at again.
ALTER TABLE {table} ALTER COLUMN {vector} SET NOT NULL;
ALTER TABLE {table} DROP CONSTRAINT {proof};
