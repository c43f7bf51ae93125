-- Collections in somebody's own tables, and least rights for workers and readers.

ALTER TABLE embedq.collection ADD CONSTRAINT collection_vectors_key UNIQUE (table_schema, table_name, vector_column);
COMMENT ON CONSTRAINT collection_vectors_key ON embedq.collection IS 'Of two writers of one column, each would overwrite the other''s vectors.';

-- Least rights. One place knows what a worker and what a reader of a collection need: functions, so that any client of SQL can
-- call them, and `embedq collection create` and `embedq migrate` do for what is new. They run with the caller's rights, grant
-- what is missing and nothing else, and what only somebody else may grant they name in a warning. Who made the schema owns it
-- and administers it: ownership cannot be granted, but membership of its role can.

CREATE FUNCTION embedq.grant_or_tell(owner oid, wanted text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    IF pg_has_role(owner, 'USAGE') THEN
        EXECUTE wanted;
    ELSE
        RAISE WARNING USING MESSAGE = format('only role %s may grant a right that is missing; let it run: %s', owner::regrole, wanted);
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.grant_or_tell IS 'Runs a statement that is for an object''s owner, or names it in a warning to who is not.';

CREATE FUNCTION embedq.grant_usage(grantee regrole, schema text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    IF NOT has_schema_privilege(grantee, schema, 'USAGE') THEN
        PERFORM embedq.grant_or_tell(
            (SELECT nspowner FROM pg_namespace WHERE nspname = schema),
            format('GRANT USAGE ON SCHEMA %I TO %s', schema, grantee)
        );
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.grant_usage IS 'Lets a role use what it has rights on in a schema.';

CREATE FUNCTION embedq.grant_on(grantee regrole, relation regclass, privilege text, columns text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    listed text := (SELECT string_agg(quote_ident(name), ', ') FROM unnest(columns) AS name);
    gone text[] := ARRAY(
        SELECT name FROM unnest(columns) AS name
        WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = relation AND attname = name AND NOT attisdropped)
    );
    lacking text[];
BEGIN
    IF gone <> '{}' THEN
        RAISE WARNING USING MESSAGE = format(
            'nothing was granted on %s: it has no column %s any more; rename it back, or drop the collection', relation, gone[1]
        );
        RETURN;
    END IF;
    lacking := ARRAY(
        SELECT name FROM unnest(columns) AS name WHERE NOT has_column_privilege(grantee, relation, name, privilege)
    );
    IF has_table_privilege(grantee, relation, privilege) OR columns IS NOT NULL AND lacking = '{}' THEN
        RETURN;
    END IF;
    PERFORM embedq.grant_or_tell(
        (SELECT relowner FROM pg_class WHERE oid = relation),
        format('GRANT %s%s ON %s TO %s', privilege, ' (' || listed || ')', relation, grantee)
    );
END
$$;
COMMENT ON FUNCTION embedq.grant_on IS 'Grants a role one privilege on a table, or on some of its columns alone, unless it has it.';

CREATE FUNCTION embedq.known_role(wanted regrole)
RETURNS regrole
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE oid = wanted) THEN
        RAISE undefined_object USING MESSAGE = format('there is no role %s', wanted), HINT = 'Give the name of a role, as CREATE ROLE has it.';
    END IF;
    RETURN wanted;
END
$$;
COMMENT ON FUNCTION embedq.known_role IS 'The role, or an error: "-" is a regrole, too.';

CREATE FUNCTION embedq.grant_writing(worker regrole, collection text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection;
    stored regclass;
    policy name := (SELECT rolname FROM pg_roles WHERE oid = worker);
BEGIN
    PERFORM embedq.known_role(worker);
    registered := embedq.registered_collection(collection);
    stored := to_regclass(format('%I.%I', registered.table_schema, registered.table_name));
    IF stored IS NULL THEN
        RETURN;  -- somebody dropped it
    END IF;
    PERFORM embedq.grant_usage(worker, registered.table_schema);
    IF NOT registered.is_managed THEN
        PERFORM embedq.grant_on(worker, stored, 'SELECT', ARRAY[registered.key_column, registered.vector_column]);
        PERFORM embedq.grant_on(worker, stored, 'UPDATE', ARRAY[registered.vector_column]);
        RETURN;
    END IF;
    PERFORM embedq.grant_on(worker, stored, privilege)
    FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege;
    -- For the day when somebody turns on row-level security: what a worker does not see it could not delete.
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = stored AND polname = policy) THEN
        PERFORM embedq.grant_or_tell(
            (SELECT relowner FROM pg_class WHERE oid = stored),
            format('CREATE POLICY %I ON %s TO %s USING (true) WITH CHECK (true)', policy, stored, worker)
        );
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.grant_writing IS 'Lets a worker''s role write a collection: every row of a table that embedq made, of somebody''s own the vectors alone.';

CREATE FUNCTION embedq.grant_worker(worker regrole)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM embedq.known_role(worker);
    PERFORM embedq.grant_usage(worker, nspname)
    FROM pg_namespace
    WHERE nspname = 'embedq' OR oid = (SELECT extnamespace FROM pg_extension WHERE extname = 'vector');
    PERFORM embedq.grant_on(worker, format('embedq.%I', relation)::regclass, privilege)
    FROM (
        VALUES ('collection', '{SELECT}'::text[]),
               ('shadow', '{SELECT}'),
               ('item', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('dead_letter', '{SELECT,INSERT,UPDATE}'),
               ('dead_letter_text', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('vector_cache', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('vector_claimant', '{SELECT,INSERT,UPDATE,DELETE}')
    ) AS needed (relation, privileges), unnest(privileges) AS privilege;
    -- Vectors land in a temporary table.
    IF NOT has_database_privilege(worker, current_database(), 'TEMPORARY') THEN
        PERFORM embedq.grant_or_tell(
            (SELECT datdba FROM pg_database WHERE datname = current_database()),
            format('GRANT TEMPORARY ON DATABASE %I TO %s', current_database(), worker)
        );
    END IF;
    PERFORM embedq.grant_writing(worker, name) FROM embedq.collection;
END
$$;
COMMENT ON FUNCTION embedq.grant_worker IS 'Lets a role run workers: all collections that there are and, as long as it may write the ledger, those to come.';

CREATE FUNCTION embedq.workers()
RETURNS SETOF regrole
LANGUAGE sql STABLE SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT acl.grantee::regrole
    FROM pg_class, aclexplode(pg_class.relacl) AS acl
    WHERE pg_class.oid IN ('embedq.item'::regclass, 'embedq.dead_letter_text'::regclass)
      AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND acl.grantee NOT IN (0, pg_class.relowner)
    GROUP BY acl.grantee
    HAVING count(DISTINCT pg_class.relname || acl.privilege_type) = 8;
END;
COMMENT ON FUNCTION embedq.workers IS 'The roles that grant_worker was called for: they have every right to the rows of the ledger and of the dead letters'' texts.';

CREATE FUNCTION embedq.grant_calling(grantee regrole, collection text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
BEGIN
    PERFORM embedq.grant_or_tell(proowner, format('GRANT EXECUTE ON FUNCTION %s TO %s', pg_proc.oid::regprocedure, grantee))
    FROM pg_proc
    WHERE (
        pronamespace = 'embedq'::regnamespace AND proname NOT LIKE 'grant%' AND prokind = 'f'
        OR pronamespace = to_regnamespace(quote_ident(registered.table_schema)) AND starts_with(proname, registered.name || '_')
            AND obj_description(pg_proc.oid, 'pg_proc') LIKE 'embedq: %'
    ) AND NOT has_function_privilege(grantee, pg_proc.oid, 'EXECUTE');
END
$$;
COMMENT ON FUNCTION embedq.grant_calling IS 'Lets a role call the functions of a collection and those of embedq that they call, where not everybody may.';

CREATE FUNCTION embedq.callers(collection text)
RETURNS SETOF regrole
LANGUAGE sql STABLE SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT DISTINCT acl.grantee::regrole
    FROM embedq.collection AS registered
    JOIN pg_proc ON pronamespace = to_regnamespace(quote_ident(registered.table_schema))
        AND proname = registered.name || '_generation', aclexplode(proacl) AS acl
    WHERE registered.name = $1 AND acl.grantee NOT IN (0, proowner);
END;
COMMENT ON FUNCTION embedq.callers IS 'The roles that were granted the functions of a collection by name, because not everybody may call them.';

CREATE FUNCTION embedq.grant_reader(reader regrole, collection text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection;
    stored regclass;
BEGIN
    PERFORM embedq.known_role(reader);
    registered := embedq.registered_collection(collection);
    stored := format('%I.%I', registered.table_schema, registered.table_name)::regclass;
    PERFORM embedq.grant_usage(reader, nspname)
    FROM pg_namespace
    WHERE nspname IN ('embedq', registered.table_schema)
       OR oid = (SELECT extnamespace FROM pg_extension WHERE extname = 'vector');
    PERFORM embedq.grant_on(reader, 'embedq.collection', 'SELECT');
    PERFORM embedq.grant_on(reader, stored, 'SELECT', CASE WHEN NOT registered.is_managed THEN array_remove(
        ARRAY[registered.key_column, registered.vector_column, registered.content_column, registered.metadata_column], NULL
    ) END);
    PERFORM embedq.grant_calling(reader, collection);
END
$$;
COMMENT ON FUNCTION embedq.grant_reader IS 'Lets a role search a collection with its functions: the table, of somebody''s own the named columns alone; no dead letter, no ledger, no cache.';
