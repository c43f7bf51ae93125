-- Following a table: triggers put what changes into the outbox, and a backfill what was there before.

CREATE TABLE embedq.watched_table (
    collection_id integer PRIMARY KEY REFERENCES embedq.collection ON DELETE CASCADE,
    source regclass NOT NULL,
    key_column text NOT NULL,
    text_expression text NOT NULL,
    metadata_expression text,
    version bigint NOT NULL,
    watched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    filled_to text,
    filled_rows bigint NOT NULL DEFAULT 0,
    filled_at timestamptz
);
COMMENT ON TABLE embedq.watched_table IS 'The tables that collections follow: embedq.watch writes it, and the backfill its progress.';
COMMENT ON COLUMN embedq.watched_table.collection_id IS 'embedq.collection.id; a collection follows one table.';
COMMENT ON COLUMN embedq.watched_table.source IS 'The table.';
COMMENT ON COLUMN embedq.watched_table.key_column IS 'Its column whose values, as text, are the items'' ids.';
COMMENT ON COLUMN embedq.watched_table.text_expression IS 'What an item''s text is, of the table''s columns.';
COMMENT ON COLUMN embedq.watched_table.metadata_expression IS 'What an item''s metadata is; null: none.';
COMMENT ON COLUMN embedq.watched_table.version IS 'The version of the backfill''s items: below that of every later change, so that a change wins.';
COMMENT ON COLUMN embedq.watched_table.watched_at IS 'From when on changes are followed.';
COMMENT ON COLUMN embedq.watched_table.filled_to IS 'The backfill has come to this key; null before its first chunk.';
COMMENT ON COLUMN embedq.watched_table.filled_rows IS 'Rows that the backfill has read.';
COMMENT ON COLUMN embedq.watched_table.filled_at IS 'When the backfill had read them all; null until then.';

-- Append only, like the outbox: applications' transactions do not wait for each other here.
CREATE TABLE embedq.missed_change (
    collection_id integer NOT NULL,
    code text NOT NULL,
    missed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX missed_change_collection_id_idx ON embedq.missed_change (collection_id, missed_at);
COMMENT ON TABLE embedq.missed_change IS 'Changes of watched tables whose texts could not be made out: the application''s transaction goes on, the collection is behind. At most one a minute and collection.';
COMMENT ON COLUMN embedq.missed_change.collection_id IS 'embedq.collection.id.';
COMMENT ON COLUMN embedq.missed_change.code IS 'The SQLSTATE of what went wrong.';
COMMENT ON COLUMN embedq.missed_change.missed_at IS 'When it was missed.';

CREATE VIEW embedq.watch_status AS
SELECT collection.name AS collection, watched.source::text AS source, watched.key_column AS id,
       watched.text_expression AS text, watched.metadata_expression AS metadata,
       CASE
           WHEN pg_class.oid IS NULL THEN 'source dropped'
           WHEN triggers.enabled < 4 THEN 'triggers off'
           WHEN missed.since IS NOT NULL THEN 'behind'
           WHEN watched.filled_at IS NULL THEN 'filling'
           ELSE 'following'
       END AS state,
       watched.watched_at, watched.filled_rows, watched.filled_at, rows.estimate AS estimated_rows,
       missed.since AS missed_since, missed.code AS missed_code
FROM embedq.watched_table AS watched
JOIN embedq.collection ON collection.id = watched.collection_id
LEFT JOIN pg_catalog.pg_class ON pg_class.oid = watched.source
CROSS JOIN LATERAL (
    SELECT count(*) AS enabled
    FROM pg_catalog.pg_trigger
    JOIN pg_catalog.pg_proc ON pg_proc.oid = tgfoid
    JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pronamespace
    WHERE tgrelid = watched.source AND nspname = 'embedq' AND proname = collection.name || '_changed'
      AND tgenabled IN ('O', 'A')
) AS triggers
CROSS JOIN LATERAL (
    SELECT nullif(greatest(sum(greatest(reltuples, 0)), 0), 0)::bigint AS estimate
    FROM pg_catalog.pg_class AS part
    WHERE relkind = 'r'  -- a partitioned table may have a count of its own
      AND (part.oid = watched.source OR part.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(watched.source)))
) AS rows
CROSS JOIN LATERAL (
    SELECT min(missed_at) AS since, min(code) AS code
    FROM embedq.missed_change
    WHERE missed_change.collection_id = watched.collection_id
) AS missed;
COMMENT ON VIEW embedq.watch_status IS 'The watched tables for people. state: filling: the backfill is under way; following; behind: changes were missed, why is in missed_code; triggers off: somebody dropped or disabled them; source dropped. docs/watch.md says what to do.';

-- Who writes a version here holds the lock of the row that it is of.

CREATE FUNCTION embedq.enqueue_changes(
    collection_id integer, above bigint, ids text[], texts text[], metadata jsonb[]
)
RETURNS void
-- A plan is kept as long as its connection: one made while the outbox was empty would read all of it later.
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
BEGIN
    INSERT INTO embedq.outbox (collection_id, id, version, text, metadata, source)
    -- What is longer than an id may be, 512 characters, becomes a dead letter; whole, it might not fit into an index.
    SELECT $1, left(change.id, 600), greatest(
               (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint,
               1 + above,
               CASE WHEN current_setting('transaction_isolation') <> 'serializable' THEN
                   1 + (SELECT max(o.version) FROM embedq.outbox AS o WHERE o.collection_id = $1 AND o.id = change.id)
               END,
               1 + (SELECT i.version FROM embedq.item AS i WHERE i.collection_id = $1 AND i.id = change.id)
           ),
           CASE WHEN NOT embedq.is_blank(change.text) THEN change.text END, change.metadata, 'embedq.watch'
    FROM unnest(ids, texts, metadata) AS change (id, text, metadata);
END
$$;
COMMENT ON FUNCTION embedq.enqueue_changes IS 'Enqueues rows that have changed; a text that is null or blank is a delete. Versions are as embedq.next_version has them, and above a lowest one.';

CREATE FUNCTION embedq.enqueue_removal(collection_id integer, above bigint)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
BEGIN
    INSERT INTO embedq.outbox (collection_id, id, version, source)
    SELECT $1, known.id, greatest((extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint, 1 + above, 1 + max(known.version)),
           'embedq.watch'
    FROM (
        SELECT o.id, o.version FROM embedq.outbox AS o WHERE o.collection_id = $1
        UNION ALL
        SELECT i.id, i.version FROM embedq.item AS i WHERE i.collection_id = $1 AND i.deleted_at IS NULL
    ) AS known
    GROUP BY known.id;
END
$$;
COMMENT ON FUNCTION embedq.enqueue_removal IS 'Enqueues the deletion of all ids of a collection: its table was truncated.';

CREATE FUNCTION embedq.note_missed_change(collection_id integer, code text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO embedq.missed_change (collection_id, code)
    SELECT $1, $2
    WHERE NOT EXISTS (
        SELECT FROM embedq.missed_change AS missed
        WHERE missed.collection_id = $1 AND missed.missed_at > clock_timestamp() - interval '1 minute'
    );
    IF FOUND THEN
        RAISE WARNING USING MESSAGE = format('collection %L misses changes of its watched table (SQLSTATE %s)',
            (SELECT name FROM embedq.collection WHERE collection.id = $1), code),
            HINT = 'SELECT * FROM embedq.watch_status says more.';
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.note_missed_change IS 'Notes that a collection is behind the table that it follows.';

CREATE FUNCTION embedq.watched_columns(watched embedq.watched_table)
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- An expression ends with a line of its own: it may end with a comment.
    SELECT format(
        E'%1$I.%2$I::text COLLATE "C" AS id, (%3$s\n)::text AS text, (%4$s\n)::jsonb AS metadata',
        pg_class.relname, watched.key_column, watched.text_expression, coalesce(watched.metadata_expression, 'NULL')
    )
    FROM pg_class
    WHERE pg_class.oid = watched.source;
$$;
COMMENT ON FUNCTION embedq.watched_columns IS 'The expressions that make an item of a row, for a query that calls the row by its table''s name.';

CREATE FUNCTION embedq.watched_query(collection text)
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT format('SELECT %s FROM %s AS %I', embedq.watched_columns(watched), watched.source, pg_class.relname)
    FROM embedq.collection AS registered
    JOIN embedq.watched_table AS watched ON watched.collection_id = registered.id
    JOIN pg_class ON pg_class.oid = watched.source
    WHERE registered.name = $1;
END;
COMMENT ON FUNCTION embedq.watched_query IS 'The query for the items of the table that a collection follows: id, text, metadata, in no order. To be run with search_path = pg_catalog. Null where it follows none.';

CREATE FUNCTION embedq.fill_chunk(watched embedq.watched_table, most integer, OUT read integer, OUT reached text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    alias text := (SELECT quote_ident(relname) FROM pg_class WHERE oid = watched.source);
    key text := format('%s.%I', alias, watched.key_column);
BEGIN
    -- What is blank is deleted where something of the id is there: from before the table was watched.
    EXECUTE 'WITH chunk AS MATERIALIZED (
                 SELECT ' || embedq.watched_columns(watched) || ', row_number() OVER (ORDER BY ' || key || ') AS place
                 FROM ' || watched.source::text || ' AS ' || alias || '
                 WHERE $2 IS NULL OR ' || key || ' > $2::' || embedq.watched_key_type(watched.source, watched.key_column) || '
                 ORDER BY ' || key || ' LIMIT $3
             ), put AS (
                 INSERT INTO embedq.outbox (collection_id, id, version, text, metadata, source, is_bulk)
                 SELECT $1, left(id, 600), $4, CASE WHEN NOT embedq.is_blank(text) THEN text END, metadata, ''embedq.watch'', true
                 FROM chunk
                 WHERE NOT coalesce(embedq.is_blank(text), true)
                    OR EXISTS (SELECT FROM embedq.item AS i WHERE i.collection_id = $1 AND i.id = chunk.id AND i.deleted_at IS NULL)
                    OR EXISTS (SELECT FROM embedq.outbox AS o WHERE o.collection_id = $1 AND o.id = chunk.id)
                 ORDER BY place
             )
             SELECT count(*)::integer, (array_agg(id ORDER BY place DESC))[1] FROM chunk'
    INTO read, reached
    USING watched.collection_id, watched.filled_to, most, watched.version;
EXCEPTION WHEN data_exception THEN
    IF most > 1 THEN  -- one row of them: those before it are gone through one by one
        SELECT chunk.read, chunk.reached INTO read, reached FROM embedq.fill_chunk(watched, 1) AS chunk;
        RETURN;
    END IF;
    PERFORM embedq.note_missed_change(watched.collection_id, SQLSTATE);
    EXECUTE 'SELECT 1, ' || key || '::text FROM ' || watched.source::text || ' AS ' || alias || '
             WHERE $1 IS NULL OR ' || key || ' > $1::' || embedq.watched_key_type(watched.source, watched.key_column) || '
             ORDER BY ' || key || ' LIMIT 1'
    INTO read, reached USING watched.filled_to;
END
$$;
COMMENT ON FUNCTION embedq.fill_chunk IS 'Enqueues the next rows of a backfill, in the order of their keys: how many were read, none at the end, and up to which key. A row whose expressions fail is left out, and noted.';

CREATE FUNCTION embedq.fill(collection_id integer, most integer)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    watched embedq.watched_table;
    chunk record;
BEGIN
    SELECT w.* INTO watched FROM embedq.watched_table AS w
    WHERE w.collection_id = $1 AND w.filled_at IS NULL
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    chunk := embedq.fill_chunk(watched, most);
    UPDATE embedq.watched_table AS w
    SET filled_to = coalesce(chunk.reached, w.filled_to), filled_rows = w.filled_rows + chunk.read,
        filled_at = CASE WHEN chunk.read = 0 THEN clock_timestamp() END
    WHERE w.collection_id = $1;
    RETURN chunk.read;
END
$$;
COMMENT ON FUNCTION embedq.fill IS 'One step of a backfill, with its progress in the same transaction; returns the rows that were read. 0: it is done; null: somebody else is at it, or it was done before.';

CREATE FUNCTION embedq.watched_key_type(source regclass, key_column text)
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT format_type(atttypid, atttypmod)
    FROM pg_attribute
    WHERE attrelid = source AND attname = key_column AND attnum > 0 AND NOT attisdropped;
END;
COMMENT ON FUNCTION embedq.watched_key_type IS 'The type of a column, null where there is none.';

CREATE FUNCTION embedq.check_watched_source(source regclass)
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong text := (
        SELECT CASE
            WHEN relkind NOT IN ('r', 'p') THEN 'is no table'
            WHEN relpersistence = 't' THEN 'is temporary'
            WHEN relispartition THEN 'is a partition; watch the table that it is a part of'
            WHEN relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = pg_class.oid)
                THEN 'has children by inheritance, whose changes no trigger of it sees'
            WHEN NOT pg_has_role(relowner, 'USAGE') THEN format('belongs to role %s; let a member of it call this', relowner::regrole)
            WHEN row_security_active(pg_class.oid) THEN format('hides rows from role %s by row-level security', current_user)
        END
        FROM pg_class WHERE pg_class.oid = source
    );
BEGIN
    IF source IS NULL THEN
        RAISE undefined_object USING MESSAGE = 'there is no such table to be watched', HINT = 'Write its schema: shop.product.';
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('%s cannot be watched: it %s', source, wrong);
    END IF;
    IF NOT has_schema_privilege('embedq', 'CREATE') THEN
        RAISE insufficient_privilege USING
            MESSAGE = format('role %s may not make functions in schema embedq; let a role call this that may', current_user);
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.check_watched_source IS 'Raises an error that says why a table cannot be watched by who calls this.';

CREATE FUNCTION embedq.check_watched_key(source regclass, key_column text)
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong text := coalesce((
        SELECT CASE
            WHEN atttypid NOT IN (
                'smallint'::regtype, 'integer'::regtype, 'bigint'::regtype, 'uuid'::regtype, 'text'::regtype, 'varchar'::regtype
            ) THEN format('is of type %s; ids are of smallint, integer, bigint, uuid, text or varchar', atttypid::regtype)
            WHEN NOT attnotnull THEN 'can be null'
            WHEN NOT coalesce(collisdeterministic, true) THEN 'takes different ids for the same by its collation'
            WHEN NOT EXISTS (
                SELECT FROM pg_index
                WHERE indrelid = attrelid AND indisunique AND indisvalid AND indpred IS NULL AND indnkeyatts = 1
                  AND indkey[0] = attnum
            ) THEN 'has no unique index of its own'
        END
        FROM pg_attribute LEFT JOIN pg_collation ON pg_collation.oid = attcollation
        WHERE attrelid = source AND attname = key_column AND attnum > 0 AND NOT attisdropped
    ), CASE WHEN embedq.watched_key_type(source, key_column) IS NULL THEN 'does not exist' END);
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('column %s of %s cannot hold ids: it %s', key_column, source, wrong);
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.check_watched_key IS 'Raises an error that says why a column cannot hold the ids of items.';

CREATE FUNCTION embedq.check_watched_expression(source regclass, expression text, named text, types regtype[])
RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found regtype;
BEGIN
    -- WHERE takes neither an aggregate nor a function that returns several rows, and a subquery no second column.
    EXECUTE format(
        E'SELECT pg_typeof((SELECT (%1$s\n) FROM %2$s AS %3$I WHERE (%1$s\n) IS NULL LIMIT 0))', expression, source,
        (SELECT relname FROM pg_class WHERE oid = source)
    ) INTO found;
    IF found <> ALL (types) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('the %s is of type %s; write an expression of type %s', named, found, types[1]);
    END IF;
EXCEPTION WHEN syntax_error_or_access_rule_violation OR feature_not_supported THEN
    RAISE invalid_parameter_value USING
        MESSAGE = format('the %s cannot be made of a row of %s: %s', named, source, SQLERRM),
        HINT = 'Write an expression over its columns; functions and types of your own with their schema.';
END
$$;
COMMENT ON FUNCTION embedq.check_watched_expression IS 'Raises an error that says what is wrong with an expression over a table''s columns.';

CREATE FUNCTION embedq.make_watch_functions(watched embedq.watched_table, collection text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rows text := format(
        E'(SELECT %s\nFROM %%I AS %s OFFSET 0)',
        replace(embedq.watched_columns(watched), '%', '%%'),
        (SELECT replace(quote_ident(relname), '%', '%%') FROM pg_class WHERE oid = watched.source)
    );
    changed text := quote_ident(collection || '_changed');
    fill text := quote_ident(collection || '_fill');
BEGIN
    -- OFFSET 0: an expression is evaluated once a row. Rows are read within the block, and put outside of it while they are few:
    -- a block that writes takes a transaction number of its own, and a transaction with many of those slows down everybody.
    EXECUTE format($function$
        CREATE OR REPLACE FUNCTION embedq.%1$s() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS %2$L
        $function$, changed, format($body$
#variable_conflict use_column
DECLARE
    changes refcursor;
    change record;
    ids text[] := '{}';
    texts text[] := '{}';
    metadatas jsonb[] := '{}';
BEGIN
    BEGIN
        CASE TG_OP
            WHEN 'INSERT' THEN OPEN changes FOR
                SELECT n.id, n.text, n.metadata FROM %2$s AS n WHERE n.text IS NOT NULL;
            WHEN 'UPDATE' THEN OPEN changes FOR
                SELECT coalesce(n.id, o.id) AS id, n.text, n.metadata
                FROM %3$s AS o FULL JOIN %2$s AS n ON n.id = o.id
                WHERE n.text IS DISTINCT FROM o.text OR n.text IS NOT NULL AND n.metadata IS DISTINCT FROM o.metadata;
            WHEN 'DELETE' THEN OPEN changes FOR
                SELECT o.id, NULL::text AS text, NULL::jsonb AS metadata FROM %3$s AS o;
            WHEN 'TRUNCATE' THEN
                PERFORM embedq.enqueue_removal(%1$s, %4$s);
                RETURN NULL;
        END CASE;
        LOOP
            FETCH changes INTO change;
            EXIT WHEN NOT FOUND;
            ids := ids || change.id;
            texts := texts || change.text;
            metadatas := metadatas || change.metadata;
            IF cardinality(ids) = 100 THEN
                PERFORM embedq.enqueue_changes(%1$s, %4$s, ids, texts, metadatas);
                ids := '{}';
                texts := '{}';
                metadatas := '{}';
            END IF;
        END LOOP;
        CLOSE changes;
    EXCEPTION WHEN OTHERS THEN
        PERFORM embedq.note_missed_change(%1$s, SQLSTATE);
        RETURN NULL;
    END;
    IF ids <> '{}' THEN
        PERFORM embedq.enqueue_changes(%1$s, %4$s, ids, texts, metadatas);
    END IF;
    RETURN NULL;
END
$body$, watched.collection_id, format(rows, 'embedq_new'), format(rows, 'embedq_old'), watched.version));
    EXECUTE format($function$
        CREATE OR REPLACE FUNCTION embedq.%1$s(most integer) RETURNS integer
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS 'BEGIN RETURN embedq.fill(%2$s, most); END'
        $function$, fill, watched.collection_id);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION embedq.%s() FROM PUBLIC', changed);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION embedq.%s(integer) FROM PUBLIC', fill);
    EXECUTE format('COMMENT ON FUNCTION embedq.%s IS %L', changed, 'Puts changes of the watched table of a collection into the outbox.');
    EXECUTE format('COMMENT ON FUNCTION embedq.%s IS %L', fill, 'One step of the backfill of a watched table, for workers.');
END
$$;
COMMENT ON FUNCTION embedq.make_watch_functions IS 'Makes what the triggers of a watched table call, and what workers call to fill. They have the rights of who calls this.';

CREATE FUNCTION embedq.make_watch_triggers(source regclass, collection text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    event record;
BEGIN
    FOR event IN
        SELECT * FROM (VALUES
            ('INSERT', 'REFERENCING NEW TABLE AS embedq_new'),
            ('UPDATE', 'REFERENCING OLD TABLE AS embedq_old NEW TABLE AS embedq_new'),
            ('DELETE', 'REFERENCING OLD TABLE AS embedq_old'),
            ('TRUNCATE', '')
        ) AS each (kind, tables)
    LOOP
        EXECUTE format(
            'CREATE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION embedq.%I()',
            'embedq_' || collection || '_' || lower(event.kind), event.kind, source, event.tables, collection || '_changed'
        );
    END LOOP;
END
$$;
COMMENT ON FUNCTION embedq.make_watch_triggers IS 'Makes the four triggers of a watched table.';

CREATE FUNCTION embedq.drop_watch(collection_id integer, collection text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $$
BEGIN
    DELETE FROM embedq.watched_table AS watched WHERE watched.collection_id = $1;  -- first, as the backfill locks it first
    EXECUTE format('DROP FUNCTION IF EXISTS embedq.%I() CASCADE', collection || '_changed');  -- and the triggers
    EXECUTE format('DROP FUNCTION IF EXISTS embedq.%I(integer)', collection || '_fill');
    DELETE FROM embedq.worker_right WHERE object = format('%I(integer)', collection || '_fill');
    DELETE FROM embedq.missed_change AS missed WHERE missed.collection_id = $1;
END
$$;
COMMENT ON FUNCTION embedq.drop_watch IS 'Removes all that embedq.watch has made for a collection, if there is anything.';

CREATE FUNCTION embedq.watch(source regclass, id text, text text, collection text, metadata text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
    registered embedq.collection;
    watched embedq.watched_table;
    seen bigint;
BEGIN
    PERFORM embedq.check_watched_source(source);
    PERFORM embedq.check_watched_key(source, id);
    PERFORM embedq.check_watched_expression(source, text, 'text', '{text,varchar,bpchar,name}');
    PERFORM embedq.check_watched_expression(source, metadata, 'metadata', '{jsonb,json}') WHERE metadata IS NOT NULL;
    LOCK TABLE embedq.collection IN SHARE ROW EXCLUSIVE MODE;  -- as who creates and drops collections
    registered := embedq.registered_collection(collection);
    IF registered.versions <> 'clock' THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('collection %L takes the caller''s versions, and a table has none; create it with versions = clock', collection);
    END IF;
    SELECT w.* INTO watched FROM embedq.watched_table AS w JOIN pg_class ON pg_class.oid = w.source
    WHERE w.collection_id = registered.id AND w.source <> watch.source;
    IF FOUND THEN
        RAISE object_in_use USING
            MESSAGE = format('collection %L follows %s already; call embedq.unwatch(%L) first', collection, watched.source, collection);
    END IF;
    seen := (SELECT max(known.version) FROM (
        SELECT i.version FROM embedq.item AS i WHERE i.collection_id = registered.id
        UNION ALL SELECT o.version FROM embedq.outbox AS o WHERE o.collection_id = registered.id
    ) AS known);
    PERFORM embedq.drop_watch(registered.id, collection);
    -- Waits for those who are writing; who writes after it does so with the triggers, and later than this.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', source);
    INSERT INTO embedq.watched_table (collection_id, source, key_column, text_expression, metadata_expression, version)
    VALUES (registered.id, source, id, text, metadata, greatest((extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint, 1 + seen))
    RETURNING * INTO watched;
    PERFORM embedq.make_watch_functions(watched, collection);
    PERFORM embedq.make_watch_triggers(source, collection);
    INSERT INTO embedq.worker_right (object, privileges) VALUES (format('%I(integer)', collection || '_fill'), '{EXECUTE}');
    PERFORM embedq.grant_execute(worker, format('embedq.%I(integer)', collection || '_fill')::regprocedure)
    FROM embedq.workers() AS worker;
END
$$;
COMMENT ON FUNCTION embedq.watch IS 'Keeps a collection current with a table: its changes from now on, and by a backfill what is in it. id: a unique column; text, metadata: expressions over its columns. Called again it begins anew, with other expressions if they are others.';

CREATE FUNCTION embedq.unwatch(collection text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
BEGIN
    IF NOT EXISTS (SELECT FROM embedq.watched_table AS w WHERE w.collection_id = registered.id) THEN
        RAISE undefined_object USING MESSAGE = format('collection %L follows no table', collection),
            HINT = 'SELECT * FROM embedq.watch_status lists those that do.';
    END IF;
    PERFORM embedq.drop_watch(registered.id, collection);
END
$$;
COMMENT ON FUNCTION embedq.unwatch IS 'Lets a collection no longer follow its table. What is stored stays.';

INSERT INTO embedq.worker_right (object, privileges) VALUES
('watch_status', '{SELECT}');
