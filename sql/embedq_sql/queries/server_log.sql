-- What Postgres writes into its own log about a worker's connection.

-- name: log_no_details
-- DETAIL and CONTEXT of an error quote the row or the parameters, hence the text. They can be left out by a superuser, since
-- Postgres 15 also by a role with SET on the parameter, and for other roles by ALTER ROLE; nothing is logged of the attempt.
DO $$
BEGIN
    SET log_error_verbosity = 'terse';
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$$;

-- name: logs_details
SELECT current_setting('log_error_verbosity') <> 'terse';
