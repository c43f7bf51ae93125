"""The outbox: what relays sent, what waits for them, and which watches no longer fill it."""

from __future__ import annotations

from prometheus_client import Counter

from embedq_worker.metrics.reading import Reading
from embedq_worker.metrics.registry import REGISTRY

RELAYED = Counter(
    "embedq_relayed_items_total",
    "Items of the outbox that this process sent to Redis, those that are sent again included.",
    ["collection", "lane"],
    unit="items",
    registry=REGISTRY,
)
EPOCHS = Counter(
    "embedq_redis_emptied_total",
    "Times that this process found Redis without what was sent to it, and began a new epoch.",
    registry=REGISTRY,
)
UNSENT = Reading(
    "embedq_fleet_outbox_unsent_rows",
    "Rows of the outbox that are not sent to Redis, counted up to 1,000.",
    ["collection", "lane"],
    unit="rows",
    life=45,
)
OLDEST = Reading(
    "embedq_fleet_outbox_oldest_seconds",
    "How long ago the oldest unsent row was enqueued, or sent to a Redis that lost it; 0 without one.",
    ["collection", "lane"],
    unit="seconds",
)
AMISS = Reading(
    "embedq_fleet_watch_amiss",
    "1 for a collection that does not follow its watched table, by the state of its watch.",
    ["collection", "state"],
)
