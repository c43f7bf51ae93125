-- What a worker's connection is told first, and asked before each use.

-- name: session
-- A locked table keeps a connection for so long at most, and is tried again: other collections need the connections too.
-- A statement of a worker that waits no longer is ended, and so is the transaction of one whose host is gone: its locks
-- would hold up everybody else.
SELECT set_config('lock_timeout', '2s', false),
       set_config('statement_timeout', %(timeout)s, false),
       set_config('idle_in_transaction_session_timeout', %(timeout)s, false);

-- name: is_read_only
-- "on" for a standby, and for a server that was told so.
SHOW transaction_read_only;
