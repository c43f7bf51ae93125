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
    chunk_overlap integer CHECK (chunk_overlap >= 0 AND chunk_overlap < chunk_tokens),
    newest_generation integer NOT NULL DEFAULT 1,
    CONSTRAINT collection_vectors_key UNIQUE (table_schema, table_name, vector_column)
);
COMMENT ON CONSTRAINT collection_vectors_key ON embedq.collection IS 'Of two writers of one column, each would overwrite the other''s vectors.';
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
COMMENT ON COLUMN embedq.collection.newest_generation IS 'The highest generation ever given: that of a successor that was abandoned is not given again.';

-- A switch or its undoing swaps this row's model, dimensions, type and generation with the collection's, and the names of the two
-- columns, in one transaction.
CREATE TABLE embedq.shadow (
    collection_id integer PRIMARY KEY REFERENCES embedq.collection ON DELETE CASCADE,
    generation integer NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    vector_type text NOT NULL CHECK (vector_type IN ('vector', 'halfvec')),
    column_name text NOT NULL,
    state text NOT NULL CHECK (state IN ('next', 'previous')),
    filled_to text COLLATE "C",
    started_at timestamptz NOT NULL DEFAULT now(),
    switched_at timestamptz
);
COMMENT ON TABLE embedq.shadow IS 'The other model of a collection that moves from one to another: its vectors stand in a column of their own, and each write keeps both.';
COMMENT ON COLUMN embedq.shadow.collection_id IS 'embedq.collection.id; a collection moves to one model at a time.';
COMMENT ON COLUMN embedq.shadow.generation IS 'The generation of these vectors.';
COMMENT ON COLUMN embedq.shadow.model IS 'The model''s id in the catalogue.';
COMMENT ON COLUMN embedq.shadow.dimensions IS 'The size of its vectors.';
COMMENT ON COLUMN embedq.shadow.vector_type IS 'vector or halfvec.';
COMMENT ON COLUMN embedq.shadow.column_name IS 'The column of the collection''s table that holds them; null where they are still to come.';
COMMENT ON COLUMN embedq.shadow.state IS 'next: the model that the collection moves to; previous: the one that it came from, until that is finished.';
COMMENT ON COLUMN embedq.shadow.filled_to IS 'Rows up to this id were enqueued to be filled in the present pass; null before its first.';
COMMENT ON COLUMN embedq.shadow.started_at IS 'When the move began.';
COMMENT ON COLUMN embedq.shadow.switched_at IS 'When the two models last changed places.';

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
COMMENT ON COLUMN embedq.dead_letter.class IS 'text: of this text; row: of this row; successor: its item is stored, but the model that the collection moves to refuses the text; not_a_job; killer: it killed its worker.';
COMMENT ON COLUMN embedq.dead_letter.status IS 'The API''s HTTP status.';
COMMENT ON COLUMN embedq.dead_letter.code IS 'Short name of the reason: the API''s, the contract''s rule, or an SQLSTATE.';
COMMENT ON COLUMN embedq.dead_letter.parameter IS 'The request''s field that the API objects to.';
COMMENT ON COLUMN embedq.dead_letter.attempts IS 'How often it was tried.';
COMMENT ON COLUMN embedq.dead_letter.source IS 'The service that enqueued it, as it calls itself.';
COMMENT ON COLUMN embedq.dead_letter.lane IS 'The lane that it came by.';
COMMENT ON COLUMN embedq.dead_letter.first_at IS 'When it died first.';
COMMENT ON COLUMN embedq.dead_letter.last_at IS 'When it died last.';

-- Nobody but their owner and workers may read these tables. For a role that sees every letter, and which of them still has a
-- text, but no text: SELECT on dead_letter and on dead_letter_text (number). Dropping needs DELETE on dead_letter as well,
-- replaying UPDATE there and SELECT on dead_letter_text, whose rows go with their letters.
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

-- One row is added to for a day, so that a year of them is small. Half of each page is left free: the rows of today are updated
-- each second by each worker process, in place as long as there is room.
CREATE TABLE embedq.usage (
    day date NOT NULL,
    model text COLLATE "C" NOT NULL,
    collection text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL DEFAULT '',
    purpose text COLLATE "C" NOT NULL CHECK (purpose IN ('documents', 'queries', 'fill', 'drift')),
    calls bigint NOT NULL,
    texts bigint NOT NULL,
    tokens bigint NOT NULL,
    estimated_tokens bigint NOT NULL,
    unpriced_tokens bigint NOT NULL,
    cost numeric NOT NULL,
    PRIMARY KEY (day, model, collection, source, purpose)
) WITH (fillfactor = 50);
COMMENT ON TABLE embedq.usage IS 'What answered calls cost, added up by day; daily_usage and monthly_usage read it for people. A worker process adds to it once a second: one that is killed may lose its last second.';
COMMENT ON COLUMN embedq.usage.day IS 'By UTC and this server''s clock.';
COMMENT ON COLUMN embedq.usage.model IS 'The model''s id in the catalogue.';
COMMENT ON COLUMN embedq.usage.collection IS 'The collection''s name, also of one that was dropped since.';
COMMENT ON COLUMN embedq.usage.source IS 'The service that enqueued the texts, as it calls itself; empty where it did not say.';
COMMENT ON COLUMN embedq.usage.purpose IS 'documents: texts to be stored; queries: search texts; fill: the other model''s vectors while a collection moves; drift: checks whether the model is still the same.';
COMMENT ON COLUMN embedq.usage.calls IS 'Answered calls; one that several rows share counts for the row of its first text.';
COMMENT ON COLUMN embedq.usage.texts IS 'Texts that were embedded; equal ones that share a call are one, of whoever was first.';
COMMENT ON COLUMN embedq.usage.tokens IS 'As the service counts them, each text''s share of its call by its characters; else estimates.';
COMMENT ON COLUMN embedq.usage.estimated_tokens IS 'Of these: of calls whose answer did not say how many.';
COMMENT ON COLUMN embedq.usage.unpriced_tokens IS 'Of these: of calls of a model whose price the worker did not know; they add nothing to cost.';
COMMENT ON COLUMN embedq.usage.cost IS 'US dollars, by the price a million tokens in the worker''s catalogue.';

-- A report whose commit was not heard of is sent again with its number, and then does nothing.
CREATE TABLE embedq.usage_report (
    process text COLLATE "C" PRIMARY KEY,
    number bigint NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE embedq.usage_report IS 'The last report of usage of each worker process: what keeps one from being counted twice.';
COMMENT ON COLUMN embedq.usage_report.process IS 'Made up when the process starts.';
COMMENT ON COLUMN embedq.usage_report.number IS 'Of its last report that was counted.';
COMMENT ON COLUMN embedq.usage_report.reported_at IS 'When that was; processes unheard of for a week are forgotten.';

CREATE TABLE embedq.budget (
    scope text COLLATE "C" NOT NULL CHECK (scope IN ('model', 'collection')),
    name text COLLATE "C" NOT NULL,
    dollars numeric CHECK (dollars BETWEEN 0 AND 1000000000),
    tokens bigint CHECK (tokens >= 0),
    set_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, name),
    CHECK (dollars IS NOT NULL OR tokens IS NOT NULL)
);
COMMENT ON TABLE embedq.budget IS 'What a model or a collection may cost a day, by UTC. Once it is spent texts wait, until midnight or a higher budget; searches are refused.';
COMMENT ON COLUMN embedq.budget.scope IS 'model or collection.';
COMMENT ON COLUMN embedq.budget.name IS 'The model''s id, or the collection''s name, whether or not it exists.';
COMMENT ON COLUMN embedq.budget.dollars IS 'US dollars a day; null where they are not limited.';
COMMENT ON COLUMN embedq.budget.tokens IS 'Tokens a day; null where they are not limited.';
COMMENT ON COLUMN embedq.budget.set_at IS 'When it was set last.';

CREATE VIEW embedq.daily_usage AS
SELECT day, model, collection, nullif(source, '') AS source, purpose, calls, texts, tokens, estimated_tokens, unpriced_tokens,
       CASE WHEN unpriced_tokens = 0 OR unpriced_tokens < tokens THEN cost END AS cost
FROM embedq.usage;
COMMENT ON VIEW embedq.daily_usage IS 'embedq.usage for people: cost is null where no price is known, source where the producer gave none.';

CREATE VIEW embedq.monthly_usage AS
SELECT date_trunc('month', day)::date AS month, model, collection, nullif(source, '') AS source, purpose,
       sum(calls)::bigint AS calls, sum(texts)::bigint AS texts, sum(tokens)::bigint AS tokens,
       sum(estimated_tokens)::bigint AS estimated_tokens, sum(unpriced_tokens)::bigint AS unpriced_tokens,
       CASE WHEN sum(unpriced_tokens) = 0 OR sum(unpriced_tokens) < sum(tokens) THEN sum(cost) END AS cost
FROM embedq.usage
GROUP BY month, model, collection, source, purpose;
COMMENT ON VIEW embedq.monthly_usage IS 'The same by month, which begins on the day that month has.';

CREATE VIEW embedq.usage_today AS
SELECT scope, name, coalesce(spent.tokens, 0) AS tokens, coalesce(spent.unpriced_tokens, 0) AS unpriced_tokens,
       coalesce(spent.cost, 0) AS cost, budget.dollars AS budget_dollars, budget.tokens AS budget_tokens,
       coalesce(coalesce(spent.cost, 0) >= budget.dollars, false)
       OR coalesce(coalesce(spent.tokens, 0) >= budget.tokens, false) AS is_spent
FROM (
    SELECT CASE WHEN model IS NULL THEN 'collection' ELSE 'model' END AS scope, coalesce(model, collection) AS name,
           sum(tokens)::bigint AS tokens, sum(unpriced_tokens)::bigint AS unpriced_tokens, sum(cost) AS cost
    FROM embedq.usage
    WHERE day = (now() AT TIME ZONE 'UTC')::date
    GROUP BY GROUPING SETS ((model), (collection))
) AS spent
FULL JOIN embedq.budget USING (scope, name);
COMMENT ON VIEW embedq.usage_today IS 'What each model and each collection has cost today, and its budget if it has one. is_spent: its texts wait.';

-- Whether a model is still the one that it was: vectors of a few fixed texts, the first ones and those of the last check. By
-- model and dimensions alone: another service under the same name is what the check is there to find.
CREATE TABLE embedq.drift (
    model text COLLATE "C" NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    wanted_at timestamptz,
    claimed_until timestamptz,
    checked_at timestamptz,
    distance double precision,
    drifts_since timestamptz,
    first_at timestamptz,
    first_parameters text,
    parameters text,
    PRIMARY KEY (model, dimensions)
);
COMMENT ON TABLE embedq.drift IS 'The last check of each model and size of vectors: how far its vectors of fixed texts are from its first ones.';
COMMENT ON COLUMN embedq.drift.model IS 'The model''s id in the catalogue.';
COMMENT ON COLUMN embedq.drift.dimensions IS 'The size of the vectors.';
COMMENT ON COLUMN embedq.drift.wanted_at IS 'When somebody last asked for a check out of turn.';
COMMENT ON COLUMN embedq.drift.claimed_until IS 'Until when no other process begins a check; null: none is under way.';
COMMENT ON COLUMN embedq.drift.checked_at IS 'When the last check ended; null before the first.';
COMMENT ON COLUMN embedq.drift.distance IS 'The greatest cosine distance, of all texts, between the vector of the last check and the first one.';
COMMENT ON COLUMN embedq.drift.drifts_since IS 'When a check first found more than drift_distance; null while none does.';
COMMENT ON COLUMN embedq.drift.first_at IS 'When the first vectors were made, or those that somebody accepted in their place.';
COMMENT ON COLUMN embedq.drift.first_parameters IS 'What shaped the first vectors besides the model, as in embedq.vector_cache.parameters.';
COMMENT ON COLUMN embedq.drift.parameters IS 'What shaped those of the last check.';

CREATE TABLE embedq.drift_vector (
    model text COLLATE "C" NOT NULL,
    dimensions integer NOT NULL,
    content_hash bytea NOT NULL,
    first bytea NOT NULL,
    latest bytea NOT NULL,
    PRIMARY KEY (model, dimensions, content_hash),
    FOREIGN KEY (model, dimensions) REFERENCES embedq.drift ON DELETE CASCADE
);
ALTER TABLE embedq.drift_vector ALTER COLUMN first SET STORAGE EXTERNAL;  -- floats do not shrink: trying costs time
ALTER TABLE embedq.drift_vector ALTER COLUMN latest SET STORAGE EXTERNAL;
COMMENT ON TABLE embedq.drift_vector IS 'The vectors of the fixed texts, which are part of embedq and in no collection.';
COMMENT ON COLUMN embedq.drift_vector.model IS 'embedq.drift.model.';
COMMENT ON COLUMN embedq.drift_vector.dimensions IS 'embedq.drift.dimensions.';
COMMENT ON COLUMN embedq.drift_vector.content_hash IS 'SHA-256 of the text''s UTF-8.';
COMMENT ON COLUMN embedq.drift_vector.first IS 'Little-endian float32, four bytes a dimension: what later ones are compared with.';
COMMENT ON COLUMN embedq.drift_vector.latest IS 'Likewise, of the last check; it becomes the first when somebody accepts it.';

-- held is a literal of the function that calls it: the function and the column that it reads change in one step, whereas the
-- registry is read by a snapshot that may be older.
CREATE FUNCTION embedq.check_generation(collection_id integer, held integer, generation integer)
RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
DECLARE
    named text := 'the collection';  -- to whom may not read the registry it says no more
    model text := '';
BEGIN
    IF held = check_generation.generation THEN
        RETURN true;
    END IF;
    IF has_table_privilege('embedq.collection', 'SELECT') THEN
        SELECT format('collection %L', c.name), format(' (model %s)', c.model) INTO named, model
        FROM embedq.collection AS c WHERE c.id = check_generation.collection_id;
    END IF;
    RAISE data_exception USING
        MESSAGE = format('the query vector is of generation %s, %s holds generation %s%s',
            check_generation.generation, named, held, model),
        HINT = 'Embed the query again: its vector and those in the table come from different models.';
END
$$;
COMMENT ON FUNCTION embedq.check_generation IS 'True, or an error that says that a query vector comes from another model than a collection''s vectors, whose generation the calling function was made with. Whoever may search need not read the registry; who may is told the collection''s name and model.';

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

-- What functions of collections set whose body is parsed when it runs: hence the search path, of Postgres' own names and
-- pgvector's. An index scan may give more than hnsw.ef_search rows, and the planner is kept to an index that there is: that long
-- vectors are stored apart from their rows, and cost far more to read, it does not know. No plan is kept, for it would outlive
-- the settings. None is compiled (jit), which takes longer than many a search: before Postgres 18 a scan that is switched off,
-- and taken where there is no index, was so dear by the planner's reckoning that this seemed worth it.
CREATE FUNCTION embedq.use_index(path text)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RETURN embedq.use_settings(jsonb_build_object(
        'search_path', path, 'plan_cache_mode', 'force_custom_plan', 'hnsw.iterative_scan', 'strict_order',
        'enable_seqscan', NOT current_setting('enable_indexscan')::boolean, 'jit', 'off'));
END
$$;
COMMENT ON FUNCTION embedq.use_index IS 'Sets what a search through an index needs for the rest of the transaction and returns what the settings were, as use_settings does.';

CREATE FUNCTION embedq.refuse_filter(collection text)
RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
BEGIN
    RAISE feature_not_supported USING
        MESSAGE = format('collection %L has no metadata that a filter could look at', collection),
        HINT = 'Leave the filter out, or write the query out with a WHERE on the columns of its table.';
END
$$;
COMMENT ON FUNCTION embedq.refuse_filter IS 'The error of a filter on an own table without metadata.';

CREATE FUNCTION embedq.search(
    collection text, query vector, k integer DEFAULT 10, filter jsonb DEFAULT NULL, generation integer DEFAULT NULL
)
RETURNS TABLE (id text, chunk integer, content text, metadata jsonb, distance double precision)
LANGUAGE plpgsql STABLE ROWS 10
AS $$
DECLARE
    registered embedq.collection;
    given integer := cardinality(query::real[]);  -- a cast needs no search path, unlike vector_dims
    indexscan CONSTANT text := current_setting('enable_indexscan');
    asked text;
    before jsonb;
    hits embedq.hit[];
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
        PERFORM embedq.refuse_filter(collection);
    END IF;
    IF filter IS NOT NULL THEN
        RETURN QUERY EXECUTE format('SELECT * FROM %I.%I($1, $2, $3, $4)',
            registered.table_schema, registered.name || '_search_where') USING query, filter, k, generation;
        RETURN;
    END IF;
    -- An HNSW scan ends after hnsw.ef_search rows (40), fewer than k may ask for, unless it may go on. The rest is as in use_index.
    before := embedq.use_settings(jsonb_build_object(
        'hnsw.iterative_scan', 'strict_order', 'enable_seqscan', NOT current_setting('enable_indexscan')::boolean,
        'jit', 'off'));
    asked := format('SELECT ARRAY(SELECT ROW(found.*)::embedq.hit FROM %I.%I($1, $2, $3) AS found)',
        registered.table_schema, registered.name || '_search');
    EXECUTE asked INTO hits USING query, k, generation;
    IF coalesce(cardinality(hits) < k, true) THEN  -- the index gave up, or there are no more: then this is quick
        PERFORM embedq.use_settings('{"enable_indexscan": "off", "enable_seqscan": "on"}');
        EXECUTE asked INTO hits USING query, k, generation;
        PERFORM embedq.use_settings(jsonb_build_object('enable_indexscan', indexscan));
    END IF;
    PERFORM embedq.use_settings(before);
    RETURN QUERY SELECT * FROM unnest(hits);
END
$$;
COMMENT ON FUNCTION embedq.search IS 'The k rows of a collection nearest to a vector by cosine distance, nearest first, for a collection that is only known when the query runs. With a filter, of those whose metadata contain it. k rows even where k is above hnsw.ef_search.';

-- What uses of vectors are computed with. Where a body is parsed when it is made (BEGIN ATOMIC, RETURN), the extension's types
-- and operators are bound then: callers with any search path get the same. Plpgsql binds late and therefore calls these.

CREATE FUNCTION embedq.cosine_distance(one vector, other vector)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN one <=> other;
COMMENT ON FUNCTION embedq.cosine_distance(vector, vector) IS 'The operator <=>, by a name that any search path finds. The planner puts the operator in its place.';

CREATE FUNCTION embedq.cosine_distance(one halfvec, other halfvec)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN one <=> other;
COMMENT ON FUNCTION embedq.cosine_distance(halfvec, halfvec) IS 'The operator <=>, by a name that any search path finds. The planner puts the operator in its place.';

CREATE FUNCTION embedq.unit_vector(given vector)
RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN l2_normalize(given);
COMMENT ON FUNCTION embedq.unit_vector(vector) IS 'The vector of length 1 in the same direction.';

CREATE FUNCTION embedq.unit_vector(given halfvec)
RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN l2_normalize(given::vector);
COMMENT ON FUNCTION embedq.unit_vector(halfvec) IS 'The vector of length 1 in the same direction, in single precision.';

CREATE FUNCTION embedq.cosine_distances(vectors vector[], other vector)
RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT array_agg(each.value <=> other ORDER BY each.number)
    FROM unnest(vectors) WITH ORDINALITY AS each (value, number);
END;
COMMENT ON FUNCTION embedq.cosine_distances IS 'The distance of each vector to another one.';

CREATE FUNCTION embedq.mean_direction(vectors vector[])
RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT l2_normalize(avg(l2_normalize(each.value))) FROM unnest(vectors) AS each (value);
END;
COMMENT ON FUNCTION embedq.mean_direction IS 'Where vectors point to on average, each with the same weight, as a vector of length 1. Null for none.';

CREATE FUNCTION embedq.rocchio(liked vector[], disliked vector[], disliked_weight double precision)
RETURNS vector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH mean AS (
        SELECT (SELECT avg(l2_normalize(each.value)) FROM unnest(liked) AS each (value)) AS liked,
               (SELECT avg(l2_normalize(each.value)) FROM unnest(disliked) AS each (value)) AS disliked
    )
    SELECT l2_normalize(CASE
        WHEN mean.disliked IS NULL THEN mean.liked
        -- No operator multiplies by a number.
        ELSE mean.liked - mean.disliked * array_fill(disliked_weight::real, ARRAY[vector_dims(mean.disliked)])::vector
    END)
    FROM mean;
END;
COMMENT ON FUNCTION embedq.rocchio IS 'The mean of liked vectors minus a weight of the mean of disliked ones, as a vector of length 1 (Rocchio 1971, without a first query). Null without a liked one.';

CREATE FUNCTION embedq.diversity(vectors vector[])
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    -- Of n unit vectors with the mean m, all products of two add up to n²·|m|², of which n are those of a vector with itself.
    SELECT CASE WHEN count(*) > 1 THEN
        greatest(0, 1 - (count(*) * power(vector_norm(avg(l2_normalize(each.value))), 2) - 1) / (count(*) - 1)) END
    FROM unnest(vectors) AS each (value);
END;
COMMENT ON FUNCTION embedq.diversity IS 'The mean cosine distance of all pairs of vectors, exact, in one pass. Null for fewer than two.';

CREATE FUNCTION embedq.vote(labels text[], distances double precision[], k integer)
RETURNS TABLE (label text, confidence double precision, neighbours integer, distance double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 3
BEGIN ATOMIC
    SELECT one.label, one.weight / sum(one.weight) OVER () AS confidence, one.neighbours, one.distance
    FROM (SELECT near.label, sum(1::float8 / greatest(near.distance, 1e-6::float8)) AS weight, count(*)::integer AS neighbours,
                 min(near.distance) AS distance
          FROM (SELECT * FROM unnest(labels, distances) LIMIT k) AS near (label, distance)
          GROUP BY near.label) AS one
    ORDER BY confidence DESC, one.label ASC;
END;
COMMENT ON FUNCTION embedq.vote IS 'The labels of the first k neighbours, likeliest first: each counts with 1 / its distance, and confidence is a label''s share.';

CREATE FUNCTION embedq.mmr(query vector, candidates vector[], k integer, lambda double precision DEFAULT 0.5)
RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
DECLARE
    to_query double precision[] := embedq.cosine_distances(candidates, query);
    to_picks double precision[];  -- of each candidate to the nearest pick; null before the first
    picks integer[] := '{}';
    pick integer;
BEGIN
    IF lambda IS NULL OR lambda NOT BETWEEN 0 AND 1 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('lambda is %s', coalesce(lambda::text, 'null')),
            HINT = 'Give a number from 0 (as different as can be) to 1 (as near as can be).';
    END IF;
    WHILE cardinality(picks) < least(k, cardinality(candidates)) LOOP
        SELECT each.number INTO pick
        FROM unnest(to_query, to_picks) WITH ORDINALITY AS each (to_query, to_picks, number)
        WHERE each.number <> ALL (picks) AND each.to_query < 'NaN'
        ORDER BY lambda * (1 - each.to_query) - (1 - lambda) * (1 - coalesce(each.to_picks, 1)) DESC, each.number
        LIMIT 1;
        EXIT WHEN NOT FOUND;  -- what is left has no distance: null, or a vector of zeros (NaN)
        picks := picks || pick;
        SELECT array_agg(least(each.before, each.to_pick) ORDER BY each.number) INTO to_picks
        FROM unnest(to_picks, embedq.cosine_distances(candidates, candidates[pick]))
            WITH ORDINALITY AS each (before, to_pick, number);
    END LOOP;
    RETURN picks;
END
$$;
COMMENT ON FUNCTION embedq.mmr IS 'Picks k candidates, by number, one after the other: each time the one with the most lambda · similarity to the query − (1 − lambda) · similarity to the nearest pick (maximal marginal relevance; Carbonell and Goldstein 1998). Similarity is 1 − cosine distance.';

CREATE FUNCTION embedq.nearest_centroids(direction vector, centroids vector[], k integer DEFAULT 1)
RETURNS TABLE (cluster integer, distance double precision)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT each.number::integer, each.centroid <=> direction
    FROM unnest(centroids) WITH ORDINALITY AS each (centroid, number)
    ORDER BY each.centroid <=> direction, each.number
    LIMIT k;
END;
COMMENT ON FUNCTION embedq.nearest_centroids IS 'The k nearest of some centroids, by number, nearest first.';

CREATE FUNCTION embedq.mean_directions(vectors vector[], clusters integer[])
RETURNS TABLE (cluster integer, centroid vector)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT each.cluster, l2_normalize(avg(l2_normalize(each.value)))
    FROM unnest(vectors, clusters) AS each (value, cluster)
    GROUP BY each.cluster;
END;
COMMENT ON FUNCTION embedq.mean_directions IS 'The mean direction of the vectors of each cluster.';

CREATE FUNCTION embedq.kmeans_seeds(vectors vector[], k integer, seed bigint, OUT seeds vector[])
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
DECLARE
    distances double precision[];  -- of each vector to the nearest seed
    picked integer;
    share double precision;  -- from 0 to 1, made of the seed: the session's random() is left as it is
BEGIN
    FOR round IN 1..least(k, coalesce(cardinality(vectors), 0)) LOOP
        share := (hashint8extended(round, seed) & 4503599627370495) / 4503599627370496.0;
        IF round = 1 THEN
            picked := 1 + floor(share * cardinality(vectors));
        ELSE
            SELECT each.number INTO picked
            FROM (SELECT number, distance, sum(distance) OVER (ORDER BY number) AS upto, sum(distance) OVER () AS total
                  FROM unnest(distances) WITH ORDINALITY AS one (distance, number)) AS each
            WHERE each.distance > 0 AND each.upto > share * each.total
            ORDER BY each.number
            LIMIT 1;
            EXIT WHEN NOT FOUND;  -- every vector equals a seed
        END IF;
        seeds := array_append(seeds, vectors[picked]);
        -- What is this near is the same, but for rounding; a vector of zeros has no distance (NaN).
        SELECT array_agg(least(each.before, CASE WHEN each.distance BETWEEN 1e-6 AND 3 THEN each.distance ELSE 0 END)
                         ORDER BY each.number) INTO distances
        FROM unnest(distances, embedq.cosine_distances(vectors, vectors[picked]))
            WITH ORDINALITY AS each (before, distance, number);
    END LOOP;
END
$$;
COMMENT ON FUNCTION embedq.kmeans_seeds IS 'k-means++ (Arthur and Vassilvitskii 2007): the first at random, each further one with a chance that grows with its distance to the nearest before it (on the unit sphere the cosine distance is half the squared one). Fewer than k where fewer vectors differ.';

CREATE FUNCTION embedq.kmeans(
    vectors vector[], k integer, seed bigint DEFAULT 0, iterations integer DEFAULT 50,
    OUT centroids vector[], OUT rounds integer
)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog
AS $$
DECLARE
    clusters integer[];
    before integer[];
    distances double precision[];
    vacant integer;
    furthest integer;
BEGIN
    IF k IS NULL OR k < 1 OR iterations IS NULL OR iterations < 1 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('%s clusters in %s iterations cannot be made',
                coalesce(k::text, 'null'), coalesce(iterations::text, 'null')),
            HINT = 'Both are 1 at least.';
    END IF;
    rounds := 0;
    centroids := embedq.kmeans_seeds(vectors, k, seed);
    WHILE rounds < iterations AND cardinality(vectors) > 0 LOOP
        before := clusters;
        SELECT array_agg(near.cluster ORDER BY each.number), array_agg(near.distance ORDER BY each.number)
        INTO clusters, distances
        FROM unnest(vectors) WITH ORDINALITY AS each (value, number)
        CROSS JOIN LATERAL embedq.nearest_centroids(each.value, centroids) AS near;
        EXIT WHEN clusters = before;
        rounds := rounds + 1;
        FOR vacant IN SELECT n FROM generate_series(1, cardinality(centroids)) AS n WHERE n <> ALL (clusters) LOOP
            -- A cluster that lost its last member starts again with the vector that fits worst where it is.
            SELECT each.number INTO furthest FROM unnest(distances) WITH ORDINALITY AS each (distance, number)
            ORDER BY each.distance DESC, each.number LIMIT 1;
            clusters[furthest] := vacant;
            distances[furthest] := 0;
        END LOOP;
        SELECT array_agg(mean.centroid ORDER BY mean.cluster) INTO centroids
        FROM embedq.mean_directions(vectors, clusters) AS mean;
    END LOOP;
END
$$;
COMMENT ON FUNCTION embedq.kmeans IS 'Spherical k-means (Dhillon and Modha 2001): centroids of length 1 by cosine distance, and how many rounds it took until no vector changed its cluster, iterations at most. The same for the same vectors in the same order, k and seed.';

CREATE TABLE embedq.clustering (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection_id integer NOT NULL REFERENCES embedq.collection ON DELETE CASCADE,
    name text NOT NULL CHECK (name <> ''),
    generation integer NOT NULL,
    k integer NOT NULL,
    seed bigint NOT NULL,
    sample integer NOT NULL,
    rounds integer NOT NULL,
    made_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (collection_id, name)
);
COMMENT ON TABLE embedq.clustering IS 'Clusterings of collections, by name. They go with their collection.';
COMMENT ON COLUMN embedq.clustering.collection_id IS 'embedq.collection.id.';
COMMENT ON COLUMN embedq.clustering.name IS 'A collection may have several.';
COMMENT ON COLUMN embedq.clustering.generation IS 'embedq.collection.generation when it was made: of another, its centroids mean nothing.';
COMMENT ON COLUMN embedq.clustering.k IS 'How many clusters were asked for.';
COMMENT ON COLUMN embedq.clustering.seed IS 'What chance was made of: the same rows and seed give the same clusters.';
COMMENT ON COLUMN embedq.clustering.sample IS 'How many rows the centroids were made from at most.';
COMMENT ON COLUMN embedq.clustering.rounds IS 'Rounds that it took.';
COMMENT ON COLUMN embedq.clustering.made_at IS 'When the centroids were made.';
COMMENT ON COLUMN embedq.clustering.updated_at IS 'When rows were labelled last.';

CREATE TABLE embedq.cluster (
    clustering_id integer NOT NULL REFERENCES embedq.clustering ON DELETE CASCADE,
    cluster integer NOT NULL,
    size bigint NOT NULL,
    distance double precision,
    centroid vector NOT NULL,
    PRIMARY KEY (clustering_id, cluster)
);
COMMENT ON TABLE embedq.cluster IS 'The clusters of each clustering.';
COMMENT ON COLUMN embedq.cluster.clustering_id IS 'embedq.clustering.id.';
COMMENT ON COLUMN embedq.cluster.cluster IS 'Its number, from 1.';
COMMENT ON COLUMN embedq.cluster.size IS 'Its members when rows were labelled last.';
COMMENT ON COLUMN embedq.cluster.distance IS 'Their mean cosine distance to the centroid; null without a member.';
COMMENT ON COLUMN embedq.cluster.centroid IS 'Where its members point to on average; of length 1.';

CREATE TABLE embedq.cluster_member (
    clustering_id integer NOT NULL REFERENCES embedq.clustering ON DELETE CASCADE,
    id text COLLATE "C" NOT NULL,
    chunk integer NOT NULL,
    cluster integer NOT NULL,
    distance double precision NOT NULL,
    version bigint,
    PRIMARY KEY (clustering_id, id, chunk)
);
CREATE INDEX cluster_member_cluster_idx ON embedq.cluster_member (clustering_id, cluster, distance);
COMMENT ON TABLE embedq.cluster_member IS 'The label of each row, as of when rows were labelled last. Ids only: whoever may not read these should not read it.';
COMMENT ON COLUMN embedq.cluster_member.clustering_id IS 'embedq.clustering.id.';
COMMENT ON COLUMN embedq.cluster_member.id IS 'The item''s id.';
COMMENT ON COLUMN embedq.cluster_member.chunk IS 'Which part of its text.';
COMMENT ON COLUMN embedq.cluster_member.cluster IS 'embedq.cluster.cluster: the nearest.';
COMMENT ON COLUMN embedq.cluster_member.distance IS 'Cosine distance to its centroid.';
COMMENT ON COLUMN embedq.cluster_member.version IS 'The version that was labelled; null of an own table, whose rows say none.';

CREATE FUNCTION embedq.registered_collection(name text)
RETURNS embedq.collection
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection;
BEGIN
    SELECT c.* INTO registered FROM embedq.collection AS c WHERE c.name = registered_collection.name;
    IF NOT FOUND THEN
        RAISE undefined_table USING MESSAGE = format('there is no collection %L', name),
            HINT = 'SELECT name FROM embedq.collection lists them.';
    END IF;
    RETURN registered;
END
$$;
COMMENT ON FUNCTION embedq.registered_collection IS 'A collection''s entry in the registry, or an error that says that there is none.';

CREATE FUNCTION embedq.rows_query(registered embedq.collection)
RETURNS text
LANGUAGE sql STABLE
RETURN format(
    'SELECT stored.%I::text AS id, %s AS chunk, stored.%I AS embedding, %s AS version
     FROM %I.%I AS stored WHERE stored.%I IS NOT NULL%s',
    (registered).key_column, CASE WHEN (registered).is_managed THEN 'stored.chunk' ELSE '0' END, (registered).vector_column,
    CASE WHEN (registered).is_managed THEN 'stored.version' ELSE 'NULL::bigint' END,
    (registered).table_schema, (registered).table_name, (registered).vector_column,
    -- A vector of zeros, which embedq does not write, has no distance (NaN).
    CASE WHEN NOT (registered).is_managed THEN
        format(' AND embedq.cosine_distance(stored.%1$I, stored.%1$I) < ''NaN''', (registered).vector_column) END);
COMMENT ON FUNCTION embedq.rows_query IS 'The query for the rows of a collection: id, chunk, embedding, version.';

CREATE FUNCTION embedq.sample_vectors(collection text, size integer, seed bigint, OUT vectors vector[])
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    most integer := 1000000000 / (4 * registered.dimensions + 16);  -- an array holds 1 GB
BEGIN
    IF size IS NULL OR size NOT BETWEEN 1 AND most THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('a sample of %s vectors cannot be drawn', coalesce(size::text, 'null')),
            HINT = format('Of %s dimensions 1 to %s can.', registered.dimensions, most);
    END IF;
    EXECUTE format(
        'SELECT array_agg(embedq.unit_vector(drawn.embedding) ORDER BY drawn.draw, drawn.id COLLATE "C", drawn.chunk)
         FROM (SELECT live.*, hashtextextended(live.id || '' '' || live.chunk, $2) AS draw FROM (%s) AS live
               ORDER BY draw, live.id COLLATE "C", live.chunk LIMIT $1) AS drawn', embedq.rows_query(registered))
    INTO vectors USING size, seed;
END
$$;
COMMENT ON FUNCTION embedq.sample_vectors IS 'Vectors of a collection as vectors of length 1, chosen and ordered by a seed, the same for the same rows. Null if there are none.';

CREATE FUNCTION embedq.label_rows(registered embedq.collection, clustering_id integer, centroids vector[])
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    labelled bigint;
BEGIN
    EXECUTE format(
        'DELETE FROM embedq.cluster_member AS member
         WHERE member.clustering_id = $1
           AND NOT EXISTS (SELECT FROM (%s) AS live WHERE live.id = member.id AND live.chunk = member.chunk)',
        embedq.rows_query(registered)) USING clustering_id;
    EXECUTE format(
        'INSERT INTO embedq.cluster_member AS member (clustering_id, id, chunk, cluster, distance, version)
         SELECT $1, live.id, live.chunk, near.cluster, near.distance, live.version
         FROM (SELECT fresh.id, fresh.chunk, fresh.version, embedq.unit_vector(fresh.embedding) AS direction
               FROM (%s) AS fresh
               WHERE NOT EXISTS (SELECT FROM embedq.cluster_member AS old
                                 WHERE old.clustering_id = $1 AND old.id = fresh.id AND old.chunk = fresh.chunk
                                   AND old.version = fresh.version)
               OFFSET 0) AS live  -- not flattened: the vector is read and normalised once, not for each centroid
         CROSS JOIN LATERAL embedq.nearest_centroids(live.direction, $2) AS near
         ON CONFLICT ON CONSTRAINT cluster_member_pkey DO UPDATE
         SET cluster = excluded.cluster, distance = excluded.distance, version = excluded.version',
        embedq.rows_query(registered)) USING clustering_id, centroids;
    GET DIAGNOSTICS labelled = ROW_COUNT;
    UPDATE embedq.cluster AS c
    SET size = coalesce(counted.size, 0), distance = counted.distance
    FROM generate_series(1, cardinality(centroids)) AS n
    LEFT JOIN (SELECT member.cluster, count(*) AS size, avg(member.distance) AS distance
               FROM embedq.cluster_member AS member WHERE member.clustering_id = label_rows.clustering_id
               GROUP BY member.cluster) AS counted ON counted.cluster = n
    WHERE c.clustering_id = label_rows.clustering_id AND c.cluster = n;
    RETURN labelled;
END
$$;
COMMENT ON FUNCTION embedq.label_rows IS 'Gives rows without a label, or with one of another version, that of the nearest centroid, and takes away the labels of rows that are gone. How many it gave.';

CREATE FUNCTION embedq.make_clustering(
    collection text, name text, k integer, seed bigint DEFAULT 0, sample integer DEFAULT 10000, iterations integer DEFAULT 50
)
RETURNS TABLE (cluster integer, size bigint, distance double precision)
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    made record;
    made_id integer;
BEGIN
    SELECT trained.centroids, trained.rounds INTO made
    FROM embedq.kmeans(embedq.sample_vectors(collection, sample, seed), k, seed, iterations) AS trained;
    IF made.centroids IS NULL THEN
        RAISE no_data_found USING MESSAGE = format('collection %L has no rows to cluster', collection),
            HINT = 'Or none that row-level security lets you see.';
    END IF;
    -- Read again: now that its table is in use, no other model's vectors can take the place of these.
    registered := embedq.registered_collection(collection);
    INSERT INTO embedq.clustering AS c
        (collection_id, name, generation, k, seed, sample, rounds, made_at, updated_at)
    VALUES
        (registered.id, make_clustering.name, registered.generation, make_clustering.k, make_clustering.seed,
         make_clustering.sample, made.rounds, now(), now())
    ON CONFLICT ON CONSTRAINT clustering_collection_id_name_key DO UPDATE
    SET generation = excluded.generation, k = excluded.k, seed = excluded.seed, sample = excluded.sample,
        rounds = excluded.rounds, made_at = excluded.made_at, updated_at = excluded.updated_at
    RETURNING c.id INTO made_id;
    DELETE FROM embedq.cluster_member AS member WHERE member.clustering_id = made_id;
    DELETE FROM embedq.cluster AS old WHERE old.clustering_id = made_id;
    INSERT INTO embedq.cluster (clustering_id, cluster, size, centroid)
    SELECT made_id, each.number, 0, each.centroid
    FROM unnest(made.centroids) WITH ORDINALITY AS each (centroid, number);
    PERFORM embedq.label_rows(registered, made_id, made.centroids);
    RETURN QUERY
        SELECT c.cluster, c.size, c.distance FROM embedq.cluster AS c WHERE c.clustering_id = made_id ORDER BY c.cluster;
END
$$;
COMMENT ON FUNCTION embedq.make_clustering IS 'Clusters the rows of a collection by spherical k-means and labels every row, in place of an earlier clustering of that name, in the caller''s transaction. The centroids are made from a sample, the labels in one pass. Returns each cluster with its size and the mean distance of its members to the centroid.';

CREATE FUNCTION embedq.current_clustering(
    registered embedq.collection, name text, OUT clustering_id integer, OUT centroids vector[]
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog
AS $$
DECLARE
    chosen embedq.clustering;
BEGIN
    SELECT c.* INTO chosen FROM embedq.clustering AS c
    WHERE c.collection_id = registered.id AND c.name = current_clustering.name;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('collection %L has no clustering %L', registered.name, name),
            HINT = 'SELECT embedq.make_clustering(…) makes one; embedq.clustering lists them.';
    END IF;
    IF chosen.generation <> registered.generation THEN
        RAISE data_exception USING
            MESSAGE = format('clustering %L is of generation %s, collection %L holds generation %s (model %s)',
                name, chosen.generation, registered.name, registered.generation, registered.model),
            HINT = 'Make it again: its centroids and the vectors in the table come from different models.';
    END IF;
    clustering_id := chosen.id;
    SELECT array_agg(c.centroid ORDER BY c.cluster) INTO centroids FROM embedq.cluster AS c WHERE c.clustering_id = chosen.id;
END
$$;
COMMENT ON FUNCTION embedq.current_clustering IS 'A clustering''s id and centroids, or an error that says that there is none for the vectors of now.';

CREATE FUNCTION embedq.update_clustering(collection text, name text)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    chosen record;
BEGIN
    -- The lock first: of two at the same time the later sees what the earlier did.
    UPDATE embedq.clustering AS c SET updated_at = now()
    WHERE c.collection_id = registered.id AND c.name = update_clustering.name;
    SELECT current.* INTO chosen FROM embedq.current_clustering(registered, name) AS current;
    RETURN embedq.label_rows(registered, chosen.clustering_id, chosen.centroids);
END
$$;
COMMENT ON FUNCTION embedq.update_clustering IS 'Gives rows that are new, or were embedded anew, the label of the nearest centroid, and takes away the labels of rows that are gone; the centroids stay. How many rows it labelled: of an own table all.';

CREATE FUNCTION embedq.nearest_clusters(
    collection text, name text, query vector, k integer DEFAULT 1, generation integer DEFAULT NULL
)
RETURNS TABLE (cluster integer, distance double precision)
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
    chosen record;
BEGIN
    PERFORM embedq.check_generation(registered.id, registered.generation, generation) WHERE generation IS NOT NULL;
    SELECT current.* INTO chosen FROM embedq.current_clustering(registered, name) AS current;
    RETURN QUERY
        SELECT near.cluster, near.distance
        FROM embedq.nearest_centroids(query, chosen.centroids, k) AS near
        WHERE near.distance < 'NaN';  -- a vector that is null or of zeros is near to none
END
$$;
COMMENT ON FUNCTION embedq.nearest_clusters IS 'The k clusters whose centroids are nearest to a vector, nearest first. With the vector''s generation, one of another model is refused.';

CREATE FUNCTION embedq.drop_clustering(collection text, name text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    registered embedq.collection := embedq.registered_collection(collection);
BEGIN
    DELETE FROM embedq.clustering AS c WHERE c.collection_id = registered.id AND c.name = drop_clustering.name;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('collection %L has no clustering %L', collection, name),
            HINT = 'embedq.clustering lists them.';
    END IF;
END
$$;
COMMENT ON FUNCTION embedq.drop_clustering IS 'Drops a clustering with its labels.';

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

CREATE FUNCTION embedq.grant_worker(worker regrole)
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

-- A reader calls what runs with the reader's own rights; what runs with the owner's is granted by name.
CREATE FUNCTION embedq.grant_calling(grantee regrole, collection text)
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
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION embedq.%I()',
            'embedq_' || collection || '_' || lower(event.kind), event.kind, source, event.tables, collection || '_changed'
        );
    END LOOP;
END
$$;
COMMENT ON FUNCTION embedq.make_watch_triggers IS 'Makes the four triggers of a watched table, or makes them anew where they are.';

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
