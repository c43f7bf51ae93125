"""The drift check: whether a model still gives the vectors that it gave first."""

from __future__ import annotations

from embedq_worker.metrics.reading import Reading

DISTANCE = Reading(
    "embedq_drift_distance",
    "The largest cosine distance of fixed texts' latest vectors to their first ones.",
    ["model"],
)
FOUND = Reading(
    "embedq_drift_found",
    "1 while that is more than drift_distance, so that another model may be served; else 0.",
    ["model"],
)
OVERDUE = Reading(
    "embedq_drift_overdue_seconds",
    "For how long a check has been due; 0 while none is. None where only people ask for checks.",
    ["model"],
    unit="seconds",
)
CHECKED = Reading(
    "embedq_drift_checked_timestamp_seconds",
    "When that was last checked, in seconds since the epoch.",
    ["model"],
    unit="seconds",
)
