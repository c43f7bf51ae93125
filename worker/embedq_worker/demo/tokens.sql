-- Tokens that a collection's texts were; $1 is its name.
SELECT coalesce(sum(item.tokens), 0)
FROM embedq.item AS item
JOIN embedq.collection AS collection ON collection.id = item.collection_id
WHERE collection.name = $1;
