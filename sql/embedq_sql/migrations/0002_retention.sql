-- Tombstones are removed after their retention; dead letters say which version a replay gives.

-- For removing tombstones that are old enough: without it every round reads the whole ledger. Live items are not in it, so
-- that their updates stay in place.
CREATE INDEX item_deleted_at_idx ON embedq.item (deleted_at) WHERE deleted_at IS NOT NULL;

COMMENT ON COLUMN embedq.dead_letter.class IS 'text: of this text; row: of this row; not_a_job; killer: it killed its worker.';
COMMENT ON COLUMN embedq.dead_letter.version IS 'The item''s version; of an item or message that names none, when it was enqueued, in microseconds.';
COMMENT ON COLUMN embedq.dead_letter_text.payload IS 'The item as JSON, the raw message, or the arguments of a message that is no job, as JSON.';
