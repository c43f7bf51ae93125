-- The two columns of vectors change places, and so do their names: vector is the collection's, shadow the other's, leaving what
-- the first one is called from now on. Values are not moved. The vectors that leave need not be there any more: nor may proof,
-- the constraint that an interrupted end of a move leaves, ask for them.
ALTER TABLE {table} RENAME COLUMN {vector} TO {leaving};
ALTER TABLE {table} RENAME COLUMN {shadow} TO {vector};
ALTER TABLE {table} ALTER COLUMN {leaving} DROP NOT NULL;
ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {proof};
COMMENT ON TABLE {table} IS {about_table};
COMMENT ON COLUMN {table}.{vector} IS {about_vector};
COMMENT ON COLUMN {table}.{leaving} IS {about_leaving};
