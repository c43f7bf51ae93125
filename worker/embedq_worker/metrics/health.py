"""Whether this process can work."""

from __future__ import annotations

from prometheus_client import Gauge

from embedq_worker.metrics.registry import REGISTRY

READY = Gauge("embedq_ready", "Whether /readyz answers 200: 1 or 0.", registry=REGISTRY)
OUTAGE = Gauge(
    "embedq_outage",
    "Whether a server is away as this process sees it, 1 or 0: postgres or redis.",
    ["server"],
    registry=REGISTRY,
)
