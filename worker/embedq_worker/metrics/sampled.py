"""A gauge whose values are looked up when a page is asked for: nothing has to be kept current meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from embedq_worker.metrics.registry import REGISTRY

Values = Mapping[tuple[str, ...], float]
"""Values by their label values, in the order of the labels."""
_NOTHING: Values = {}


class Sampled:
    """``look`` is asked for all values at once, on the thread that writes the page, which is none of
    the worker's own."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        unit: str = "",
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.labels = labels
        self._name = name
        self._documentation = documentation
        self._unit = unit
        self._look: Callable[[], Values] = lambda: _NOTHING
        registry.register(self)

    def follow(self, look: Callable[[], Values]) -> None:
        """Ask ``look`` from now on."""
        self._look = look

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The name alone, for the registry."""
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The values of now."""
        family = self._family()
        for labels, value in self._look().items():
            family.add_metric(labels, value)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self.labels, unit=self._unit)
