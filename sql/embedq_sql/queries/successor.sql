-- A collection's move from one model to another.

-- name: change_briefly
-- For this transaction: a table that is in use is waited for so briefly that the queries which queue up behind us are hardly
-- held up; it is tried again.
SET LOCAL lock_timeout = '500ms';

-- name: change_patiently
-- Longer than deadlock_timeout (1 s), after which Postgres ends an autovacuum that is in somebody's way: one of a table with
-- large vector indexes may go on for minutes.
SET LOCAL lock_timeout = '1500ms';

-- name: new_generation
-- A generation that the collection has never had.
UPDATE embedq.collection SET newest_generation = newest_generation + 1
WHERE id = %(collection_id)s
RETURNING newest_generation;

-- name: register_shadow
INSERT INTO embedq.shadow (collection_id, generation, model, dimensions, vector_type, column_name, state)
VALUES (%(collection_id)s, %(generation)s, %(model)s, %(dimensions)s, %(vector_type)s, %(column_name)s, 'next');

-- name: swap_collection
-- The collection's half of a switch: it is the shadow's model from now on.
UPDATE embedq.collection
SET model = %(model)s, dimensions = %(dimensions)s, vector_type = %(vector_type)s, generation = %(generation)s
WHERE id = %(collection_id)s;

-- name: swap_shadow
-- The other half.
UPDATE embedq.shadow
SET model = %(model)s, dimensions = %(dimensions)s, vector_type = %(vector_type)s, generation = %(generation)s,
    column_name = %(column_name)s, state = %(state)s, filled_to = NULL, switched_at = now()
WHERE collection_id = %(collection_id)s;

-- name: forget_shadow
DELETE FROM embedq.shadow WHERE collection_id = %(collection_id)s;

-- name: fill_position
-- How far the present pass of filling is, and since when the collection moves.
SELECT filled_to, started_at, switched_at FROM embedq.shadow WHERE collection_id = %(collection_id)s;

-- name: filling_starts
-- By the database's clock.
SELECT now();

-- name: note_filled_to
UPDATE embedq.shadow SET filled_to = %(filled_to)s
WHERE collection_id = %(collection_id)s AND generation = %(generation)s;

-- name: lock_filling
-- One fills, switches or finishes a collection at a time, until the session ends or lets go. False: somebody is at it.
SELECT pg_try_advisory_lock(73060, %(collection_id)s);

-- name: unlock_filling
SELECT pg_advisory_unlock(73060, %(collection_id)s);

-- name: built_on_column
-- What reads a column of a table, embedq's own left out: views, functions, generated columns, policies, checks, triggers and so
-- on go on reading the old vectors after a switch, whatever the columns are called. Indexes and statistics may stay.
SELECT DISTINCT CASE WHEN pg_rewrite.oid IS NOT NULL THEN pg_rewrite.ev_class::regclass::text
                     WHEN pg_proc.oid IS NOT NULL THEN pg_proc.oid::regprocedure::text
                     ELSE pg_describe_object(pg_depend.classid, pg_depend.objid, pg_depend.objsubid) END
FROM pg_depend
LEFT JOIN pg_rewrite ON pg_depend.classid = 'pg_rewrite'::regclass AND pg_rewrite.oid = pg_depend.objid
LEFT JOIN pg_proc ON pg_depend.classid = 'pg_proc'::regclass AND pg_proc.oid = pg_depend.objid
LEFT JOIN pg_class ON pg_depend.classid = 'pg_class'::regclass AND pg_class.oid = pg_depend.objid
LEFT JOIN pg_constraint ON pg_depend.classid = 'pg_constraint'::regclass AND pg_constraint.oid = pg_depend.objid
WHERE pg_depend.refclassid = 'pg_class'::regclass AND pg_depend.refobjid = %(table)s::regclass
  AND pg_depend.refobjsubid = (
      SELECT attnum FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attname = %(column)s)
  AND coalesce(obj_description(pg_proc.oid, 'pg_proc'), '') NOT LIKE 'embedq: %%'
  AND coalesce(pg_class.relkind, '') NOT IN ('i', 'I')
  AND coalesce(pg_constraint.contype, '') <> 'n' AND coalesce(pg_constraint.conname, '') <> %(proof)s
  AND pg_depend.classid <> 'pg_statistic_ext'::regclass;

-- name: column_grants
-- Who may do what with a column, of rights on the column itself: privilege, role or null for everybody, whether it may be
-- passed on.
SELECT granted.privilege_type, pg_roles.rolname, granted.is_grantable
FROM pg_attribute CROSS JOIN LATERAL aclexplode(attacl) AS granted
LEFT JOIN pg_roles ON pg_roles.oid = granted.grantee
WHERE attrelid = %(table)s::regclass AND attname = %(column)s;

-- name: next_transaction
-- The transaction that comes next, and when that was.
SELECT pg_snapshot_xmax(pg_current_snapshot())::text, clock_timestamp();

-- name: older_snapshot
-- The session of this database that reads by the oldest snapshot, if one is older than a transaction and was taken before a
-- moment: it may not see what was committed until then.
SELECT pid, coalesce(usename, '?'), coalesce(nullif(application_name, ''), '?'), coalesce(state, '?')
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND coalesce(backend_type, 'client backend') = 'client backend'
  AND coalesce(xact_start < %(before)s, true)  -- of other people's sessions it may be hidden
  AND age(backend_xmin) > age(%(transaction)s::text::xid8::xid)
ORDER BY age(backend_xmin) DESC, pid
LIMIT 1;

-- name: is_required
-- Whether a column must not be null.
SELECT attnotnull FROM pg_attribute WHERE attrelid = %(table)s::regclass AND attname = %(column)s;

-- name: is_valid_index
-- Whether an index may be used; no row if there is none of the name.
SELECT indisvalid FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %(schema)s AND relname = %(name)s;

-- name: ledger_tokens
-- What the texts of a collection cost the model that they came from: items, those whose tokens are known, and these tokens.
SELECT count(*), count(tokens) FILTER (WHERE tokens > 0), coalesce(sum(tokens), 0)::bigint
FROM embedq.item
WHERE collection_id = %(collection_id)s AND deleted_at IS NULL;
