-- The column for another model's vectors, empty: only the catalogue changes. table is a qualified name, shadow a plain one, about
-- its comment.
ALTER TABLE {table} ADD COLUMN {shadow} {type}({dimensions});
COMMENT ON COLUMN {table}.{shadow} IS {about};
