"""The registry of this process: all that ``/metrics`` tells, and nothing that a library adds by itself."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# A second series for each counter, which says when it was made, is left out.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
BUILD = Info("embedq_build", "The version of embedq that runs.", registry=REGISTRY)
BUILD.info({"version": version("embedq")})
