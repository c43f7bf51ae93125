"""Whether this process can work."""

from __future__ import annotations

from embedq_worker.metrics.sampled import Sampled

READY = Sampled("embedq_ready", "Whether /readyz answers 200: 1 or 0.")
OUTAGE = Sampled(
    "embedq_outage",
    "Whether a server is away as this process sees it, 1 or 0: postgres or redis.",
    ["server"],
)
