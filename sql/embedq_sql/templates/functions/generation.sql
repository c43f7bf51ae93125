-- The generation of the vectors.
-- A statement that names the table sees this as it is for the column that it reads: both change in one step. Functions in
-- plpgsql, whose own body may be older than the columns that it names, and people's own SQL hold a vector's generation against
-- it.
CREATE OR REPLACE FUNCTION {function}()
RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN {held};
COMMENT ON FUNCTION {function}() IS 'embedq: the generation of the vectors; another model''s have another one.';
