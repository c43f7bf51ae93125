-- What calls cost, and what they may cost a day.

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

-- Workers may add to it and read the budgets; `embedq migrate` grants it to those that there are.
CREATE OR REPLACE FUNCTION embedq.grant_worker(worker regrole)
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
               ('vector_claimant', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('usage', '{SELECT,INSERT,UPDATE}'),
               ('usage_report', '{SELECT,INSERT,UPDATE,DELETE}'),
               ('budget', '{SELECT}'),
               ('usage_today', '{SELECT}')
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
