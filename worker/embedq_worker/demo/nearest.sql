-- The texts nearest to a vector, by cosine distance; $1 is the vector as text: [0.1,0.2,…]. The demo shows what it runs.
SELECT id, content, embedding <=> $1 AS distance
FROM docs
ORDER BY embedding <=> $1
LIMIT 3;
