-- Rights for what is new. embedq.workers() are the roles that may write the ledger.

-- name: grant_workers
-- To every worker what it lacks: after migrations, which may bring tables.
SELECT embedq.grant_worker(worker) FROM embedq.workers() AS worker;

-- name: grant_workers_writing
-- To every worker the writing of one collection.
SELECT embedq.grant_writing(worker, %(collection)s) FROM embedq.workers() AS worker;

-- name: grant_callers
-- To every role that was granted one function of a collection by name, those that are new.
SELECT embedq.grant_calling(caller, %(collection)s) FROM embedq.callers(%(collection)s) AS caller;
