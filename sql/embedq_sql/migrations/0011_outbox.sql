-- Enqueueing in the caller's own transaction, and the rights of those who do.

-- Append only: enqueueing inserts and locks nothing, so callers wait neither for each other nor for workers. A row that is sent
-- gets another place in the indexes: no fillfactor would spare that. Whatever is settled is deleted: without eager vacuuming
-- the relays would read past ever more of what is gone.
CREATE TABLE embedq.outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    text text,
    metadata jsonb,
    source text,
    is_bulk boolean NOT NULL DEFAULT false,
    epoch bigint NOT NULL DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX outbox_unsent_idx ON embedq.outbox (collection_id, is_bulk, epoch, moved_at);  -- what a relay asks for
CREATE INDEX outbox_id_idx ON embedq.outbox (collection_id, id, version);  -- what a writer deletes by, and a version comes after
COMMENT ON TABLE embedq.outbox IS 'Items enqueued in SQL, each in its caller''s transaction. Workers send them to Redis; a row is deleted by the transaction that stores its item, or that makes it a dead letter.';
COMMENT ON COLUMN embedq.outbox.number IS 'In order of the calls.';
COMMENT ON COLUMN embedq.outbox.collection_id IS 'embedq.collection.id; no foreign key, which would lock the collection for every item.';
COMMENT ON COLUMN embedq.outbox.id IS 'The item''s id.';
COMMENT ON COLUMN embedq.outbox.version IS 'The item''s version: of an id''s rows the highest is the latest.';
COMMENT ON COLUMN embedq.outbox.text IS 'The text to embed; null: the id is to be deleted.';
COMMENT ON COLUMN embedq.outbox.metadata IS 'The item''s metadata.';
COMMENT ON COLUMN embedq.outbox.source IS 'The service that enqueued it, as it calls itself.';
COMMENT ON COLUMN embedq.outbox.is_bulk IS 'The lane: bulk, or live.';
COMMENT ON COLUMN embedq.outbox.epoch IS 'embedq.broker.epoch when it was last sent; below the present one it is unsent, 0: never sent.';
COMMENT ON COLUMN embedq.outbox.moved_at IS 'When it was enqueued, or last sent.';

CREATE TABLE embedq.broker (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    epoch bigint NOT NULL DEFAULT 1,
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO embedq.broker DEFAULT VALUES;
COMMENT ON TABLE embedq.broker IS 'One row: which Redis the outbox was sent to. Redis holds the same epoch; where it does not, it was emptied or restored, and what was sent to it is sent again.';
COMMENT ON COLUMN embedq.broker.is_only IS 'There is no second row.';
COMMENT ON COLUMN embedq.broker.epoch IS 'Counts how often Redis was found without what it was sent.';
COMMENT ON COLUMN embedq.broker.changed_at IS 'When that was last.';

-- The rules of docs/contract.md for what Postgres lets through. What they leave to the worker becomes a dead letter there.

CREATE FUNCTION embedq.white_space()
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN E' \t\n\x0B\f\r\x1C\x1D\x1E\x1F\u0085\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008'
    || E'\u2009\u200A\u2028\u2029\u202F\u205F\u3000';
COMMENT ON FUNCTION embedq.white_space IS 'The characters of a text that has nothing to embed: Unicode''s white space.';

CREATE FUNCTION embedq.is_blank(text text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    -- The beginning decides for all but texts that begin with much of nothing: the whole of a long text is not read.
    WHEN ltrim(left(text, 32), embedq.white_space()) <> '' THEN false
    ELSE ltrim(text, embedq.white_space()) = ''
END;
COMMENT ON FUNCTION embedq.is_blank IS 'Whether a text is nothing but white space, as the contract means it. Null for null.';

CREATE FUNCTION embedq.broken_rule(
    id text, text text, metadata jsonb, version bigint, deleted boolean, versions text
)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN id IS NULL THEN 'id_missing'
    WHEN id = '' THEN 'id_empty'
    WHEN length(id) > 512 THEN 'id_too_long'
    WHEN versions = 'clock' AND version IS NOT NULL THEN 'version_given'
    WHEN versions = 'given' AND version IS NULL THEN 'version_missing'
    WHEN version < 0 THEN 'version_range'
    WHEN deleted THEN CASE WHEN text IS NOT NULL THEN 'deleted_with_text' END
    WHEN text IS NULL THEN 'text_missing'
    WHEN embedq.is_blank(text) THEN 'text_empty'
    WHEN octet_length(text) > 1048576 THEN 'item_too_large'
    WHEN metadata IS NULL THEN NULL
    WHEN jsonb_typeof(metadata) NOT IN ('object', 'null') THEN 'metadata_type'
    WHEN pg_column_size(metadata) > 1048576 THEN 'item_too_large'
    -- A level takes four bytes at least.
    WHEN pg_column_size(metadata) > 128
        AND jsonb_path_exists(metadata, 'strict $.**{33 to last} ? (@.type() == "object" || @.type() == "array")')
        THEN 'metadata_too_deep'
END;
COMMENT ON FUNCTION embedq.broken_rule IS 'The name of the first rule of the contract that an item breaks; null if it breaks none. versions: the collection''s.';

CREATE FUNCTION embedq.refuse_item(id text, rule text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE check_violation USING CONSTRAINT = rule, DETAIL = coalesce(left(id, 512), ''), MESSAGE = format('%s: %s (%s)',
        CASE WHEN coalesce(id, '') = '' THEN 'an item without a usable id' ELSE format('item %L', left(id, 512)) END,
        CASE rule
            WHEN 'id_missing' THEN 'it has no id'
            WHEN 'id_empty' THEN 'its id is empty'
            WHEN 'id_too_long' THEN format('its id has %s characters, at most 512', length(id))
            WHEN 'version_given' THEN
                'this collection takes versions from the clock; give none, or create it with versions = given'
            WHEN 'version_missing' THEN 'this collection takes the caller''s versions; give one'
            WHEN 'version_range' THEN 'its version is not within 0 and 2^63 - 1'
            WHEN 'deleted_with_text' THEN 'a delete carries no text'
            WHEN 'text_missing' THEN 'it has no text; embedq.enqueue_delete deletes it'
            WHEN 'text_empty' THEN 'its text is empty; there is nothing to embed'
            WHEN 'item_too_large' THEN 'it has more than 1048576 bytes; no message holds it'
            WHEN 'metadata_type' THEN 'its metadata is not an object'
            WHEN 'metadata_too_deep' THEN 'its metadata is nested more than 32 levels'
        END, rule);
END
$$;
COMMENT ON FUNCTION embedq.refuse_item IS 'Raises what a broken rule means, of which item; the rule''s name stands in the error''s constraint name, the id in its detail.';

CREATE FUNCTION embedq.outbox_target(collection text, lane text, source text)
RETURNS embedq.collection
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    registered embedq.collection;
    known text;
BEGIN
    SELECT c.* INTO registered FROM embedq.collection AS c WHERE c.name = outbox_target.collection;
    IF NOT FOUND THEN
        known := (SELECT string_agg(c.name, ', ' ORDER BY c.name) FROM embedq.collection AS c);
        RAISE undefined_table USING CONSTRAINT = 'unknown_collection', DETAIL = coalesce(known, ''),
            MESSAGE = format('collection %L is not registered; registered: %s', collection, coalesce(known, 'none yet')),
            HINT = 'Create it with `embedq collection create`.';
    END IF;
    IF lane IS NULL OR lane NOT IN ('live', 'bulk') THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('lane is %s; items are enqueued to ''live'' or ''bulk''', coalesce(quote_literal(lane), 'null'));
    END IF;
    IF length(source) NOT BETWEEN 1 AND 200 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('source has %s characters; give 1 to 200, or null', length(source));
    END IF;
    RETURN registered;
END
$$;
COMMENT ON FUNCTION embedq.outbox_target IS 'The collection that items are enqueued to, or an error that says what is wrong with it, the lane or the source; of an unknown collection with the names that there are.';

CREATE FUNCTION embedq.next_version(collection_id integer, id text)
RETURNS bigint
-- A plan is kept as long as its statement or transaction: one made while the outbox was empty would read all of it for each item.
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
BEGIN ATOMIC
    -- Not now(), which is from before the caller waited for a row lock. Above what is known of the id, whatever a clock says.
    SELECT greatest(
        (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint,
        -- Who reads pages that others write is refused his commit where transactions are serializable.
        CASE WHEN current_setting('transaction_isolation') <> 'serializable' THEN
            1 + (SELECT max(o.version) FROM embedq.outbox AS o WHERE o.collection_id = $1 AND o.id = $2)
        END,
        1 + (SELECT i.version FROM embedq.item AS i WHERE i.collection_id = $1 AND i.id = $2)
    );
END;
COMMENT ON FUNCTION embedq.next_version IS 'A version later than all of an id that can be seen, but in the outbox by a serializable transaction: microseconds of this moment, or one more than the highest.';

CREATE FUNCTION embedq.append(
    collection text, id text, text text, metadata jsonb, version bigint, deleted boolean, lane text, source text
)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target embedq.collection := embedq.outbox_target(collection, lane, source);
    rule text := embedq.broken_rule(id, text, metadata, version, deleted, target.versions);
BEGIN
    IF rule IS NOT NULL THEN
        PERFORM embedq.refuse_item(id, rule);
    END IF;
    version := coalesce(version, embedq.next_version(target.id, id));
    INSERT INTO embedq.outbox (collection_id, id, version, text, metadata, source, is_bulk)
    VALUES (target.id, append.id, append.version, append.text, append.metadata, append.source, lane = 'bulk');
    RETURN version;
END
$$;
COMMENT ON FUNCTION embedq.append IS 'What embedq.enqueue and embedq.enqueue_delete do, with the rights of who calls it.';

-- What producers call. They run with the owner's rights, so that a producer's role needs none on any table.

CREATE FUNCTION embedq.enqueue(
    collection text, id text, text text, metadata jsonb DEFAULT NULL, version bigint DEFAULT NULL,
    lane text DEFAULT 'live', source text DEFAULT NULL
)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN embedq.append(collection, id, text, metadata, version, false, lane, source);
COMMENT ON FUNCTION embedq.enqueue IS 'Enqueues one item: it will be embedded if the caller''s transaction commits. Returns its version.';

CREATE FUNCTION embedq.enqueue_delete(
    collection text, id text, version bigint DEFAULT NULL, lane text DEFAULT 'live', source text DEFAULT NULL
)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN embedq.append(collection, id, NULL, NULL, version, true, lane, source);
COMMENT ON FUNCTION embedq.enqueue_delete IS 'Enqueues the deletion of one id: its rows will go if the caller''s transaction commits. Returns its version.';

CREATE FUNCTION embedq.enqueue_many(
    collection text, ids text[], texts text[], metadata jsonb[] DEFAULT NULL, versions bigint[] DEFAULT NULL,
    deleted boolean[] DEFAULT NULL, lane text DEFAULT 'live', source text DEFAULT NULL
)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target embedq.collection := embedq.outbox_target(collection, lane, source);
    many integer := coalesce(cardinality(ids), 0);
    broken record;
BEGIN
    IF NOT (many = ALL (ARRAY[
        coalesce(cardinality(texts), many), coalesce(cardinality(metadata), many),
        coalesce(cardinality(versions), many), coalesce(cardinality(deleted), many)
    ])) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the arrays are of different lengths',
            HINT = 'Give one element for each id, or null for a whole array.';
    END IF;
    SELECT each.id, embedq.broken_rule(each.id, each.text, each.metadata, each.version, each.deleted, target.versions) AS rule
    INTO broken
    FROM unnest(ids, texts, metadata, versions, deleted) WITH ORDINALITY AS each (id, text, metadata, version, deleted, place)
    WHERE embedq.broken_rule(each.id, each.text, each.metadata, each.version, each.deleted, target.versions) IS NOT NULL
    ORDER BY each.place LIMIT 1;
    IF FOUND THEN
        PERFORM embedq.refuse_item(broken.id, broken.rule);
    END IF;
    INSERT INTO embedq.outbox (collection_id, id, version, text, metadata, source, is_bulk)
    -- Row by row: for a version it is seen what the statement itself has inserted.
    SELECT target.id, each.id, coalesce(each.version, embedq.next_version(target.id, each.id)),
           each.text, each.metadata, enqueue_many.source, lane = 'bulk'
    FROM unnest(ids, texts, metadata, versions, deleted) AS each (id, text, metadata, version, deleted);
    RETURN many;
END
$$;
COMMENT ON FUNCTION embedq.enqueue_many IS 'Enqueues many items by arrays of one element each, in one statement; deleted: those that are to be deleted, their text null. All or none. Returns how many.';

REVOKE EXECUTE ON FUNCTION embedq.enqueue FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embedq.enqueue_delete FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION embedq.enqueue_many FROM PUBLIC;

-- What a worker's role may do. A migration that brings something adds its rows here; embedq.grant_worker stays as it is.
CREATE TABLE embedq.worker_right (
    object text COLLATE "C" PRIMARY KEY,
    privileges text[] NOT NULL
);
COMMENT ON TABLE embedq.worker_right IS 'What embedq.grant_worker grants on the tables, views and functions of this schema.';
COMMENT ON COLUMN embedq.worker_right.object IS 'The name of a table or a view, or of a function with the types of its arguments.';
COMMENT ON COLUMN embedq.worker_right.privileges IS 'As GRANT names them; of a function EXECUTE.';
INSERT INTO embedq.worker_right (object, privileges) VALUES
('collection', '{SELECT}'),
('shadow', '{SELECT}'),
('item', '{SELECT,INSERT,UPDATE,DELETE}'),
('dead_letter', '{SELECT,INSERT,UPDATE}'),
('dead_letter_text', '{SELECT,INSERT,UPDATE,DELETE}'),
('vector_cache', '{SELECT,INSERT,UPDATE,DELETE}'),
('vector_claimant', '{SELECT,INSERT,UPDATE,DELETE}'),
('usage', '{SELECT,INSERT,UPDATE}'),
('usage_report', '{SELECT,INSERT,UPDATE,DELETE}'),
('budget', '{SELECT}'),
('usage_today', '{SELECT}'),
('drift', '{SELECT,INSERT,UPDATE}'),
('drift_vector', '{SELECT,INSERT,UPDATE}'),
('outbox', '{SELECT,UPDATE,DELETE}'),
('broker', '{SELECT,UPDATE}');

CREATE FUNCTION embedq.grant_execute(grantee regrole, called regprocedure)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    IF NOT has_function_privilege(grantee, called, 'EXECUTE') THEN
        PERFORM embedq.grant_or_tell(
            (SELECT proowner FROM pg_proc WHERE oid = called),
            format('GRANT EXECUTE ON FUNCTION %s TO %s', called, grantee)
        );
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.grant_execute IS 'Lets a role call a function, unless it may.';

CREATE OR REPLACE FUNCTION embedq.grant_worker(worker regrole)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM embedq.known_role(worker);
    PERFORM embedq.grant_usage(worker, nspname)
    FROM pg_namespace
    WHERE nspname = 'embedq' OR oid = (SELECT extnamespace FROM pg_extension WHERE extname = 'vector');
    PERFORM embedq.grant_on(worker, format('embedq.%I', object)::regclass, privilege)
    FROM embedq.worker_right, unnest(privileges) AS privilege WHERE privilege <> 'EXECUTE';
    -- One that is gone was dropped with the role that owned it.
    PERFORM embedq.grant_execute(worker, called)
    FROM embedq.worker_right, to_regprocedure(format('embedq.%s', object)) AS called
    WHERE privileges = '{EXECUTE}' AND called IS NOT NULL;
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

-- A reader calls what runs with the reader's own rights; what runs with the owner's is granted by name.
CREATE OR REPLACE FUNCTION embedq.grant_calling(grantee regrole, collection text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
BEGIN
    PERFORM embedq.grant_execute(grantee, pg_proc.oid::regprocedure)
    FROM pg_proc
    WHERE pronamespace = 'embedq'::regnamespace AND proname NOT LIKE 'grant%' AND prokind = 'f' AND NOT prosecdef
       OR pronamespace = to_regnamespace(quote_ident(registered.table_schema)) AND starts_with(proname, registered.name || '_')
          AND obj_description(pg_proc.oid, 'pg_proc') LIKE 'embedq: %';
END
$$;

CREATE FUNCTION embedq.grant_producer(producer regrole)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM embedq.known_role(producer);
    PERFORM embedq.grant_usage(producer, 'embedq');
    PERFORM embedq.grant_execute(producer, oid::regprocedure)
    FROM pg_proc WHERE pronamespace = 'embedq'::regnamespace AND proname IN ('enqueue', 'enqueue_delete', 'enqueue_many');
END
$$;
COMMENT ON FUNCTION embedq.grant_producer IS 'Lets a role enqueue into every collection by SQL, and read nothing.';
