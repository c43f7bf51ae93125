-- A column of vectors that is not wanted any more, with its indexes, and the index of the rows that lack the other one. Only the
-- catalogue changes; the space comes back as rows are written. Without CASCADE: a view that somebody built on it stops it.
ALTER TABLE {table} DROP COLUMN IF EXISTS {shadow};
DROP INDEX IF EXISTS {lacking};
