"""Calls of the API: how they ended, how long they took, how long they were waited for."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from embedq_worker.metrics.registry import REGISTRY

CALLS = Counter(
    "embedq_calls_total",
    "Calls that have ended, by outcome: answered, throttled (429), failed (may pass), refused (the service "
    "refuses us), bad_input (a text is at fault), dropped (ended by us).",
    ["model", "outcome"],
    unit="calls",
    registry=REGISTRY,
)
CALL_TIME = Histogram(
    "embedq_call_seconds",
    "How long a call took, however it ended.",
    ["model"],
    unit="seconds",
    buckets=(0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 30, 60, 120),
    registry=REGISTRY,
)
IN_FLIGHT = Gauge(
    "embedq_calls_in_flight", "Calls of this process that wait for an answer.", ["model"], registry=REGISTRY
)
RETRIES = Counter(
    "embedq_retries_total",
    "Calls for texts that were called for before: tried again, or halves of a batch that was refused.",
    ["model"],
    registry=REGISTRY,
)
WAIT = Histogram(
    "embedq_wait_seconds",
    "From when a text was asked for to when it was first called for; of each call its oldest text.",
    ["model", "lane"],
    unit="seconds",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800),
    registry=REGISTRY,
)
