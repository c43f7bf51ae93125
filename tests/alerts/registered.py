"""The series that Prometheus has of workers: their names and their labels."""

from __future__ import annotations

from functools import cache

from embedq_worker.metrics.registry import REGISTRY
from tests.support.metrics import all_metrics

_OF_PROMETHEUS = {
    "up": frozenset[str](),
    "ALERTS": frozenset({"alertname", "alertstate"}),
    "embedq:collection_budget_spent": frozenset({"collection"}),
}
"""Series that Prometheus makes itself, and that the rules have it record."""


@cache
def registered() -> dict[str, frozenset[str]]:
    """The labels of each series, by its name."""
    found = dict(_OF_PROMETHEUS)
    for name, metric in all_metrics().items():
        found |= dict.fromkeys(_series(name, metric.type), frozenset(metric.labels))
    for family in REGISTRY.collect():  # what the library brings of the process, and the version's label
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, frozenset()) | frozenset(sample.labels)
    return found


def _series(name: str, kind: str) -> list[str]:
    return [f"{name}_{part}" for part in ("bucket", "count", "sum")] if kind == "histogram" else [name]
