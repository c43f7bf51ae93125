-- What `embedq migrate` runs besides the migrations.

-- name: lock_migrations
-- One `embedq migrate` at a time in a database, until its transaction ends. The number is embedq's own, picked once.
SELECT pg_advisory_xact_lock(7305804402);

-- name: create_extension
-- pgvector, if it is not there.
CREATE EXTENSION IF NOT EXISTS vector;

-- name: extension_version
-- The version of pgvector in this database, as text.
SELECT extversion FROM pg_extension WHERE extname = 'vector';

-- name: has_migrations
-- Whether this database has ever been migrated.
SELECT to_regclass('embedq.migration') IS NOT NULL;

-- name: applied_migrations
-- The numbers of the migrations that this database has.
SELECT number FROM embedq.migration ORDER BY number;

-- name: record_migration
-- A migration was applied.
INSERT INTO embedq.migration (number, name) VALUES (%(number)s, %(name)s);
