-- What a change of a watched table costs its writer: a plan that is kept. And neither a key that became null nor an id of the
-- highest version ends the transaction of who writes. And watching a table again waits for nobody who reads it.

CREATE OR REPLACE FUNCTION embedq.enqueue_changes(
    collection_id integer, above bigint, ids text[], texts text[], metadata jsonb[]
)
RETURNS void
-- One plan for as long as a connection lasts: Postgres, which expects ten rows of arrays that it does not know, would plan each
-- change of one row anew, and take longer for it than for all the rest. One from when the outbox was empty would read all of it.
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    INSERT INTO embedq.outbox (collection_id, id, version, text, metadata, source)
    -- What is longer than an id may be, 512 characters, becomes a dead letter; whole, it might not fit into an index.
    SELECT $1, left(change.id, 600), 1 + least(greatest(
               (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint,
               above,
               CASE WHEN current_setting('transaction_isolation') <> 'serializable' THEN
                   (SELECT max(o.version) FROM embedq.outbox AS o WHERE o.collection_id = $1 AND o.id = change.id)
               END,
               (SELECT i.version FROM embedq.item AS i WHERE i.collection_id = $1 AND i.id = change.id)
           ), 9223372036854775806),  -- whoever enqueued the highest version there is: no statement fails for that
           CASE WHEN NOT embedq.is_blank(change.text) THEN change.text END, change.metadata, 'embedq.watch'
    FROM unnest(ids, texts, metadata) AS change (id, text, metadata)
    WHERE change.id IS NOT NULL;
    IF array_position(ids, NULL) IS NOT NULL THEN  -- the key lost its NOT NULL after the table was watched
        PERFORM embedq.note_missed_change($1, '22004');
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION embedq.make_watch_triggers(source regclass, collection text)
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
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION embedq.%I()',
            'embedq_' || collection || '_' || lower(event.kind), event.kind, source, event.tables, collection || '_changed'
        );
    END LOOP;
END
$$;
COMMENT ON FUNCTION embedq.make_watch_triggers IS 'Makes the four triggers of a watched table, or makes them anew where they are.';

CREATE OR REPLACE FUNCTION embedq.watch(source regclass, id text, text text, collection text, metadata text DEFAULT NULL)
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
    DELETE FROM embedq.watched_table AS w WHERE w.collection_id = registered.id;  -- first, as the backfill locks it first
    DELETE FROM embedq.missed_change AS missed WHERE missed.collection_id = registered.id;
    -- Waits for those who are writing; who writes after it does so with the triggers, and later than this.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', source);
    INSERT INTO embedq.watched_table (collection_id, source, key_column, text_expression, metadata_expression, version)
    VALUES (registered.id, source, id, text, metadata, greatest((extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint, 1 + seen))
    RETURNING * INTO watched;
    -- What there is of an earlier watch is made anew in its place: to drop a trigger is to wait for all who read the table, while
    -- whoever comes then waits, too.
    PERFORM embedq.make_watch_functions(watched, collection);
    EXECUTE format('ALTER FUNCTION embedq.%I() OWNER TO CURRENT_USER', collection || '_changed');
    EXECUTE format('ALTER FUNCTION embedq.%I(integer) OWNER TO CURRENT_USER', collection || '_fill');
    PERFORM embedq.make_watch_triggers(source, collection);
    INSERT INTO embedq.worker_right (object, privileges) VALUES (format('%I(integer)', collection || '_fill'), '{EXECUTE}')
    ON CONFLICT DO NOTHING;
    PERFORM embedq.grant_execute(worker, format('embedq.%I(integer)', collection || '_fill')::regprocedure)
    FROM embedq.workers() AS worker;
END
$$;
