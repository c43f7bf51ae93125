-- What a change of a watched table costs its writer: a plan that is kept. And neither a key that became null nor an id of the
-- highest version ends the transaction of who writes.

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
