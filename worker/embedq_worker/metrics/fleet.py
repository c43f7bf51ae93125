"""The fleet, as Redis and Postgres know it: every process says the same, so take the maximum of them.

What limits, pauses and slots are, ``limiter`` says.
"""

from __future__ import annotations

from embedq_worker.metrics.reading import Reading

COLLECTIONS = Reading(
    "embedq_fleet_collection_info",
    "1 for each collection, with the model that embeds it: to join what is told by model and by collection.",
    ["collection", "model"],
)
QUEUED = Reading(
    "embedq_fleet_queued_messages",
    "Messages in the queue of a lane, in nobody's hands.",
    ["collection", "lane"],
    unit="messages",
)
OLDEST = Reading(
    "embedq_fleet_oldest_seconds",
    "How long ago the next message of a queue was enqueued, by its header; 0 for an empty queue.",
    ["collection", "lane"],
    unit="seconds",
)
WORKERS = Reading("embedq_fleet_workers", "Worker processes that are alive.")
SUSPECTS = Reading("embedq_fleet_suspects", "Messages of dead workers that wait to be run apart from others.")
SLOTS = Reading("embedq_fleet_slots", "Calls that may be in flight now.", ["model"])
LIMIT = Reading("embedq_fleet_limit", "Calls that may be in flight at most, as configured.", ["model"])
IN_FLIGHT = Reading("embedq_fleet_in_flight", "Calls in flight.", ["model"])
WAITING = Reading(
    "embedq_fleet_waiting",
    "Calls that are wanted and may not be made yet; 32 a flow and process at most.",
    ["model"],
)
PAUSED = Reading(
    "embedq_fleet_paused",
    "1 while the breaker is open, so that no worker calls the model, and why.",
    ["model", "reason"],
)
COOLING = Reading(
    "embedq_fleet_cooling", "Whether all wait because the service asks not to be called: 1 or 0.", ["model"]
)
SLOTS_CHANGED = Reading(
    "embedq_fleet_slots_changed_timestamp_seconds",
    "When the number of slots last changed, in seconds since the epoch, and why.",
    ["model", "why"],
    unit="seconds",
)
DEAD_LETTERS = Reading(
    "embedq_fleet_dead_letters",
    "Dead letters that are kept, counted up to 1,000; the collection is empty where none has its name.",
    ["collection"],
    life=45,
)
