-- Enqueues items by arrays of one element each, in the transaction of whoever runs it. Every driver can write an array of text,
-- few one of jsonb.
SELECT embedq.enqueue_many(
    collection => cast(%(collection)s AS text),
    ids => cast(%(ids)s AS text[]),
    texts => cast(%(texts)s AS text[]),
    metadata => cast(cast(%(metadata)s AS text[]) AS jsonb[]),
    versions => cast(%(versions)s AS bigint[]),
    deleted => cast(%(deleted)s AS boolean[]),
    lane => cast(%(lane)s AS text),
    source => cast(%(source)s AS text)
);
