-- What calls cost, and budgets.

-- name: add_usage
-- Adds a report of a process to today's rows, unless that report was counted before: one whose commit was not heard of is sent
-- again. In the order of the key, so that two processes wait for each other and never in a circle.
WITH report AS (
    INSERT INTO embedq.usage_report AS last (process, number)
    VALUES (%(process)s, %(number)s)
    ON CONFLICT (process) DO UPDATE
    SET number = excluded.number, reported_at = now()
    WHERE last.number < excluded.number
    RETURNING true
)
INSERT INTO embedq.usage AS known (
    day, model, collection, source, purpose, calls, texts, tokens, estimated_tokens, unpriced_tokens, cost
)
SELECT
    (now() AT TIME ZONE 'UTC')::date, added.model, added.collection, added.source, added.purpose, added.calls, added.texts,
    added.tokens, added.estimated_tokens, added.unpriced_tokens, added.cost
FROM unnest(
    %(model)s::text[], %(collection)s::text[], %(source)s::text[], %(purpose)s::text[], %(calls)s::bigint[], %(texts)s::bigint[],
    %(tokens)s::bigint[], %(estimated_tokens)s::bigint[], %(unpriced_tokens)s::bigint[], %(cost)s::numeric[]
) AS added (model, collection, source, purpose, calls, texts, tokens, estimated_tokens, unpriced_tokens, cost)
WHERE EXISTS (SELECT FROM report)
ORDER BY added.model, added.collection, added.source, added.purpose
ON CONFLICT (day, model, collection, source, purpose) DO UPDATE
SET calls = known.calls + excluded.calls,
    texts = known.texts + excluded.texts,
    tokens = known.tokens + excluded.tokens,
    estimated_tokens = known.estimated_tokens + excluded.estimated_tokens,
    unpriced_tokens = known.unpriced_tokens + excluded.unpriced_tokens,
    cost = known.cost + excluded.cost;

-- name: usage_today
-- What each model and collection has cost today, and its budget; also budgets of what cost nothing so far.
SELECT scope, name, tokens, unpriced_tokens, cost, budget_dollars, budget_tokens, is_spent
FROM embedq.usage_today
ORDER BY scope, name;

-- name: usage_by
-- Of the last so many days, today among them, added up by one of day, model, collection and source; source null: not named.
SELECT CASE %(by)s WHEN 'day' THEN day::text WHEN 'model' THEN model WHEN 'collection' THEN collection ELSE source END AS key,
       sum(calls)::bigint AS calls, sum(texts)::bigint AS texts, sum(tokens)::bigint AS tokens,
       sum(estimated_tokens)::bigint AS estimated_tokens, sum(unpriced_tokens)::bigint AS unpriced_tokens,
       CASE WHEN sum(unpriced_tokens) = 0 OR sum(unpriced_tokens) < sum(tokens) THEN sum(cost) END AS cost
FROM embedq.daily_usage
WHERE day > (now() AT TIME ZONE 'UTC')::date - %(days)s::integer
GROUP BY key
ORDER BY key NULLS LAST;

-- name: forget_usage_reports
-- Processes that have not reported for a week: none tries again to have a report counted after so long.
DELETE FROM embedq.usage_report WHERE reported_at < now() - interval '7 days';

-- name: set_budget
-- In place of the one that there was; null: not limited.
INSERT INTO embedq.budget (scope, name, dollars, tokens)
VALUES (%(scope)s, %(name)s, %(dollars)s, %(tokens)s)
ON CONFLICT (scope, name) DO UPDATE
SET dollars = excluded.dollars, tokens = excluded.tokens, set_at = now();

-- name: reset_budget
-- There is none any more.
DELETE FROM embedq.budget WHERE scope = %(scope)s AND name = %(name)s;

-- name: stored_hashes
-- Of these ids of a collection, what of them is stored.
SELECT id, content_hash
FROM embedq.item
WHERE collection_id = %(collection_id)s AND id = ANY (%(ids)s::text[]) AND deleted_at IS NULL;
