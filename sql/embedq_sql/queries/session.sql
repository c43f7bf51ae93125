-- What a worker's connection is told first.

-- name: session
-- A locked table keeps a connection for so long at most, and is tried again: other collections need the connections too.
SET lock_timeout = '2s'
