-- A function of a collection. Without CASCADE: a view that somebody built on it stops it. signature is its qualified name with
-- the types of its arguments.
DROP FUNCTION IF EXISTS {signature};
