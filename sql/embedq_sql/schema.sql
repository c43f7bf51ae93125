-- The whole schema of embedq as it is after the last migration, for reading. `embedq migrate` gets there by the files in
-- migrations/; a test proves that both give the same database. A collection's own table and functions are made by
-- `embedq collection create` from templates/.
--
-- Needs PostgreSQL 14 and pgvector 0.8. Search functions use the extension's types and operators, so its schema must be on
-- the search path of whoever migrates and creates collections.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE SCHEMA embedq;
COMMENT ON SCHEMA embedq IS 'The machinery of embedq. Collections are tables of their own, elsewhere.';

CREATE TABLE embedq.migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE embedq.migration IS 'The migrations that made this schema.';
COMMENT ON COLUMN embedq.migration.number IS 'The number that the file name begins with.';
COMMENT ON COLUMN embedq.migration.name IS 'The file name without its ending.';
COMMENT ON COLUMN embedq.migration.applied_at IS 'When it was applied here.';

CREATE TABLE embedq.collection (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9_]{0,47}$'),
    table_schema text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    vector_type text NOT NULL CHECK (vector_type IN ('vector', 'halfvec')),
    versions text NOT NULL CHECK (versions IN ('clock', 'given')),
    generation integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    table_name text NOT NULL,
    is_managed boolean NOT NULL DEFAULT true,
    key_column text NOT NULL DEFAULT 'id',
    key_type text NOT NULL DEFAULT 'text',
    vector_column text NOT NULL DEFAULT 'embedding',
    content_column text DEFAULT 'content',
    metadata_column text DEFAULT 'metadata',
    text_search text NOT NULL DEFAULT 'simple',
    quantization text NOT NULL DEFAULT 'none' CHECK (quantization IN ('none', 'halfvec', 'binary')),
    on_too_long text NOT NULL DEFAULT 'error' CHECK (on_too_long IN ('error', 'truncate', 'chunk')),
    chunk_tokens integer CHECK (chunk_tokens > 0),
    chunk_overlap integer CHECK (chunk_overlap >= 0 AND chunk_overlap < chunk_tokens)
);
COMMENT ON TABLE embedq.collection IS 'The registry of collections. Workers publish it to Redis, where producers read it.';
COMMENT ON COLUMN embedq.collection.id IS 'Never given twice: a collection dropped and created anew has another ledger.';
COMMENT ON COLUMN embedq.collection.name IS 'Also the name of its queues, and the beginning of its functions'' names.';
COMMENT ON COLUMN embedq.collection.table_schema IS 'Where its table and its functions are.';
COMMENT ON COLUMN embedq.collection.model IS 'The model''s id in the catalogue.';
COMMENT ON COLUMN embedq.collection.dimensions IS 'The size of its vectors.';
COMMENT ON COLUMN embedq.collection.vector_type IS 'vector: four bytes a dimension; halfvec: two.';
COMMENT ON COLUMN embedq.collection.versions IS 'clock: versions are microseconds by the broker''s clock; given: the caller''s.';
COMMENT ON COLUMN embedq.collection.generation IS 'Counts the models that its vectors came from, one after the other.';
COMMENT ON COLUMN embedq.collection.created_at IS 'When it was created.';
COMMENT ON COLUMN embedq.collection.table_name IS 'The name of its table; of one that embedq made, the collection''s.';
COMMENT ON COLUMN embedq.collection.is_managed IS 'embedq made the table and drops it; false: somebody''s own, of which only the vectors are written.';
COMMENT ON COLUMN embedq.collection.key_column IS 'The column that holds an item''s id.';
COMMENT ON COLUMN embedq.collection.key_type IS 'The type of that column, which ids are cast to.';
COMMENT ON COLUMN embedq.collection.vector_column IS 'The column that holds the vectors.';
COMMENT ON COLUMN embedq.collection.content_column IS 'The column that holds the texts; null where an own table has none.';
COMMENT ON COLUMN embedq.collection.metadata_column IS 'The jsonb column that filters look at; null where an own table has none.';
COMMENT ON COLUMN embedq.collection.text_search IS 'The configuration of full text search, as in pg_ts_config.';
COMMENT ON COLUMN embedq.collection.quantization IS 'What the vector index holds: none: the vectors; halfvec, binary: shorter ones, and results are ranked again by the vectors.';
COMMENT ON COLUMN embedq.collection.on_too_long IS 'A text longer than the model takes becomes a dead letter (error), is cut (truncate), or becomes several rows (chunk).';
COMMENT ON COLUMN embedq.collection.chunk_tokens IS 'Tokens of a chunk at most; null unless texts are chunked.';
COMMENT ON COLUMN embedq.collection.chunk_overlap IS 'Tokens that a chunk repeats of the one before; null unless texts are chunked.';

-- No foreign key to collection: it would look up and lock the same row for every item written. `collection drop` deletes a
-- collection's items. A writer's transaction first locks the collection's table and then looks whether the collection is
-- still registered; once it was dropped, the transaction fails as a whole, even if another has taken its name.
CREATE TABLE embedq.item (
    collection_id integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    content_hash bytea NOT NULL,
    chunks integer NOT NULL,
    tokens integer,
    truncated boolean NOT NULL DEFAULT false,
    deleted_at timestamptz,
    embedded_at timestamptz,
    PRIMARY KEY (collection_id, id)
) WITH (fillfactor = 90);  -- room for updates in place: only deletes touch an indexed column
COMMENT ON TABLE embedq.item IS 'The ledger: what is stored of each id. The only guard of versions.';
COMMENT ON COLUMN embedq.item.collection_id IS 'embedq.collection.id.';
COMMENT ON COLUMN embedq.item.id IS 'The item''s id. In byte order, which is the order in which writers lock.';
COMMENT ON COLUMN embedq.item.version IS 'An item that arrives with a lower version is superseded.';
COMMENT ON COLUMN embedq.item.content_hash IS 'Digest of the content and of what shapes its vector. Of equal versions the higher digest wins.';
COMMENT ON COLUMN embedq.item.chunks IS 'Rows in the collection''s table; 0 for a deleted id.';
COMMENT ON COLUMN embedq.item.tokens IS 'Tokens that the model was given; null if the service did not say.';
COMMENT ON COLUMN embedq.item.truncated IS 'The text was longer than the model takes and was cut.';
COMMENT ON COLUMN embedq.item.deleted_at IS 'Set on a tombstone: the id was deleted, and older messages must not bring it back.';
COMMENT ON COLUMN embedq.item.embedded_at IS 'When the vector was written; null on a tombstone.';

-- For removing tombstones that are old enough: without it every round reads the whole ledger. Live items are not in it, so
-- that their updates stay in place.
CREATE INDEX item_deleted_at_idx ON embedq.item (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE embedq.dead_letter (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text,
    item_id text,
    version bigint,
    class text NOT NULL,
    status integer,
    code text NOT NULL,
    parameter text,
    attempts integer NOT NULL,
    source text,
    lane text,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    -- An item that dies again of the same cause adds an attempt. Nulls are distinct: of raw messages, none replaces another.
    UNIQUE (collection, item_id, version, class, code)
);
COMMENT ON TABLE embedq.dead_letter IS 'Items that cannot be embedded, and messages that are no jobs, with the reason. Never with their text.';
COMMENT ON COLUMN embedq.dead_letter.number IS 'In order of arrival.';
COMMENT ON COLUMN embedq.dead_letter.collection IS 'The collection''s name, which may be unknown here; null if the message named none.';
COMMENT ON COLUMN embedq.dead_letter.item_id IS 'The item''s id; null for a message that is no job.';
COMMENT ON COLUMN embedq.dead_letter.version IS 'The item''s version; of an item or message that names none, when it was enqueued, in microseconds.';
COMMENT ON COLUMN embedq.dead_letter.class IS 'text: of this text; row: of this row; not_a_job; killer: it killed its worker.';
COMMENT ON COLUMN embedq.dead_letter.status IS 'The API''s HTTP status.';
COMMENT ON COLUMN embedq.dead_letter.code IS 'Short name of the reason: the API''s, the contract''s rule, or an SQLSTATE.';
COMMENT ON COLUMN embedq.dead_letter.parameter IS 'The request''s field that the API objects to.';
COMMENT ON COLUMN embedq.dead_letter.attempts IS 'How often it was tried.';
COMMENT ON COLUMN embedq.dead_letter.source IS 'The service that enqueued it, as it calls itself.';
COMMENT ON COLUMN embedq.dead_letter.lane IS 'The lane that it came by.';
COMMENT ON COLUMN embedq.dead_letter.first_at IS 'When it died first.';
COMMENT ON COLUMN embedq.dead_letter.last_at IS 'When it died last.';

-- Nobody but their owner may read these tables until somebody is granted it. For a role that sees every letter, and which of
-- them still has a text, but no text:
--
--     GRANT USAGE ON SCHEMA embedq TO support;
--     GRANT SELECT ON embedq.dead_letter TO support;
--     GRANT SELECT (number) ON embedq.dead_letter_text TO support;
--
-- Dropping needs SELECT and DELETE on dead_letter, replaying UPDATE as well and SELECT on dead_letter_text, whose rows go with
-- their letters. A worker needs SELECT, INSERT and UPDATE on both, and for the retention DELETE on dead_letter_text and item.
CREATE TABLE embedq.dead_letter_text (
    number bigint PRIMARY KEY REFERENCES embedq.dead_letter ON DELETE CASCADE,
    payload text NOT NULL
);
COMMENT ON TABLE embedq.dead_letter_text IS 'What the dead letters said, for replay. A table of its own, so that rights and retention can differ.';
COMMENT ON COLUMN embedq.dead_letter_text.number IS 'embedq.dead_letter.number.';
COMMENT ON COLUMN embedq.dead_letter_text.payload IS 'The item as JSON, the raw message, or the arguments of a message that is no job, as JSON.';

-- A row is a vector, or the claim of a process that is getting it: so that one statement finds the one or makes the other,
-- and of several processes exactly one wins.
CREATE TABLE embedq.vector_cache (
    model text COLLATE "C" NOT NULL,
    parameters text COLLATE "C" NOT NULL,
    content_hash bytea NOT NULL,
    vector bytea,
    tokens integer,
    claimed_by text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (content_hash, model, parameters),  -- the hash first: no plan reads all of a model's
    CHECK ((vector IS NULL) <> (claimed_by IS NULL))
);
ALTER TABLE embedq.vector_cache ALTER COLUMN vector SET STORAGE EXTERNAL;  -- floats do not shrink: trying costs time
CREATE INDEX vector_cache_used_at_idx ON embedq.vector_cache (used_at);  -- for what forgets
COMMENT ON TABLE embedq.vector_cache IS 'Vectors by what they were made of, for the same text again; empty unless vector_cache_days is set. Derived from texts: whoever may not read these should not read it.';
COMMENT ON COLUMN embedq.vector_cache.model IS 'The model''s id in the catalogue.';
COMMENT ON COLUMN embedq.vector_cache.parameters IS 'What else shapes the vector, as JSON: service, dimensions, purpose, prefix, further fields of the request.';
COMMENT ON COLUMN embedq.vector_cache.content_hash IS 'SHA-256 of the text''s UTF-8.';
COMMENT ON COLUMN embedq.vector_cache.vector IS 'Little-endian float32, four bytes a dimension; null while it is only claimed.';
COMMENT ON COLUMN embedq.vector_cache.tokens IS 'Tokens that it cost; 0 if the service did not say.';
COMMENT ON COLUMN embedq.vector_cache.claimed_by IS 'embedq.vector_claimant.name of who is getting the vector; no other asks for the text while that lives.';
COMMENT ON COLUMN embedq.vector_cache.created_at IS 'When it was first asked for.';
COMMENT ON COLUMN embedq.vector_cache.used_at IS 'When it was used last, to a day: a use is written once a day at most.';

CREATE TABLE embedq.vector_claimant (
    name text COLLATE "C" PRIMARY KEY,
    alive_until timestamptz NOT NULL
);
COMMENT ON TABLE embedq.vector_claimant IS 'Worker processes that hold claims in embedq.vector_cache. One row is renewed, however many claims there are.';
COMMENT ON COLUMN embedq.vector_claimant.name IS 'Made up when a process begins to claim, and again whenever it was not renewed in time.';
COMMENT ON COLUMN embedq.vector_claimant.alive_until IS 'When its claims lapse unless it is renewed.';

CREATE FUNCTION embedq.check_generation(collection_id integer, generation integer)
RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection;
BEGIN
    SELECT c.* INTO registered FROM embedq.collection AS c WHERE c.id = check_generation.collection_id;
    IF registered.generation = check_generation.generation THEN
        RETURN true;
    END IF;
    RAISE data_exception USING
        MESSAGE = format('the query vector is of generation %s, collection %L holds generation %s (model %s)',
            check_generation.generation, registered.name, registered.generation, registered.model),
        HINT = 'Embed the query again: its vector and those in the table come from different models.';
END
$$;
COMMENT ON FUNCTION embedq.check_generation IS 'True, or an error that says that a query vector comes from another model than a collection''s vectors. With the rights of its owner: whoever may search need not read the registry.';

CREATE TYPE embedq.hit AS (
    id text,
    chunk integer,
    content text,
    metadata jsonb,
    distance double precision
);
COMMENT ON TYPE embedq.hit IS 'A row that was found; what the search functions of collections return first.';

CREATE FUNCTION embedq.use_settings(settings jsonb)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    before jsonb := '{}';
    setting record;
BEGIN
    FOR setting IN SELECT key, value FROM jsonb_each_text(settings) LOOP
        before := before || jsonb_build_object(setting.key, current_setting(setting.key, true));
        PERFORM set_config(setting.key, setting.value, true);
    END LOOP;
    RETURN before;
END
$$;
COMMENT ON FUNCTION embedq.use_settings IS 'Sets settings for the rest of the transaction and returns what they were, for a second call that sets them back. A function''s SET clause would keep it from being restored from a dump by other than superusers.';

CREATE FUNCTION embedq.search(
    collection text, query vector, k integer DEFAULT 10, filter jsonb DEFAULT NULL, generation integer DEFAULT NULL
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
DECLARE
    registered embedq.collection;
    given integer := cardinality(query::real[]);  -- a cast needs no search path, unlike vector_dims
    before jsonb;
BEGIN
    SELECT c.* INTO registered FROM embedq.collection AS c WHERE c.name = search.collection;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('there is no collection %L', collection),
            HINT = 'SELECT name FROM embedq.collection lists them.';
    END IF;
    IF given <> registered.dimensions THEN
        RAISE data_exception USING MESSAGE = format('the vectors of collection %L have %s dimensions, the query has %s',
            collection, registered.dimensions, given);
    END IF;
    IF filter IS NOT NULL AND registered.metadata_column IS NULL THEN
        RAISE feature_not_supported USING
            MESSAGE = format('collection %L has no metadata that a filter could look at', collection),
            HINT = 'Search without a filter, or write the query out with a WHERE on the columns of its table.';
    END IF;
    IF filter IS NOT NULL THEN
        RETURN QUERY EXECUTE format('SELECT * FROM %I.%I($1, $2, $3, $4)',
            registered.table_schema, registered.name || '_search_where') USING query, filter, k, generation;
        RETURN;
    END IF;
    -- An HNSW scan ends after hnsw.ef_search rows (40), fewer than k may ask for, unless it may go on.
    before := embedq.use_settings('{"hnsw.iterative_scan": "strict_order"}');
    RETURN QUERY EXECUTE format('SELECT * FROM %I.%I($1, $2, $3)', registered.table_schema, registered.name || '_search')
        USING query, k, generation;
    PERFORM embedq.use_settings(before);
END
$$;
COMMENT ON FUNCTION embedq.search IS 'The k rows of a collection nearest to a vector by cosine distance, nearest first, for a collection that is only known when the query runs. With a filter, of those whose metadata contain it. k rows even where k is above hnsw.ef_search.';
