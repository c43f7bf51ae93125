"""What Redis and Postgres did not do."""

from __future__ import annotations

from prometheus_client import Counter

from embedq_worker.metrics.registry import REGISTRY

_ERRORS = Counter(
    "embedq_server_errors_total",
    "Times that postgres or redis failed work which is done again: the connection was lost or refused, or it "
    "could not.",
    ["server"],
    registry=REGISTRY,
)
# Both from the start: what a counter has when it appears is no increase.
POSTGRES_ERRORS = _ERRORS.labels("postgres")
REDIS_ERRORS = _ERRORS.labels("redis")
