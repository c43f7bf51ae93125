-- Two indexes change their names, if they are there. one, other and free are qualified names, plain_… the same without a schema.
ALTER INDEX IF EXISTS {one} RENAME TO {plain_free};
ALTER INDEX IF EXISTS {other} RENAME TO {plain_one};
ALTER INDEX IF EXISTS {free} RENAME TO {plain_other};
