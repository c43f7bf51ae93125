"""Messages of workers that died."""

from __future__ import annotations

from prometheus_client import Counter

from embedq_worker.metrics.registry import REGISTRY

TAKEN_OVER = Counter(
    "embedq_taken_over_messages_total",
    "Messages of dead workers that this process took over for the fleet.",
    unit="messages",
    registry=REGISTRY,
)
SUSPECTS_RUN = Counter(
    "embedq_suspects_run_total",
    "Suspects that this process took into its hands, to run them apart from all else.",
    registry=REGISTRY,
)
