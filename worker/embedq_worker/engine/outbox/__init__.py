"""The outbox: rows of Postgres relayed to Redis, looked after until they are settled."""
