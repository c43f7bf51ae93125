"""A reading: a gauge of the whole fleet, whose values are read together and do not outlive their truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from embedq_worker.metrics.registry import REGISTRY

LIFE = 15.0
"""Seconds after which values that were not read again are left out."""
_NOTHING: Mapping[tuple[str, ...], float] = {}


class Reading:
    """Values by their labels. They are replaced as a whole: what is not among them any more is gone."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        unit: str = "",
        registry: CollectorRegistry = REGISTRY,
        life: float = LIFE,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self.labels = labels
        self._unit = unit
        self._life = life
        self._clock = clock
        self._values = _NOTHING
        self._read_at = clock()
        registry.register(self)

    def replace(self, values: Mapping[tuple[str, ...], float]) -> None:
        """All the values of now, each by its label values in their order."""
        self._values, self._read_at = values, self._clock()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The name alone, for the registry."""
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The values, if they are young enough."""
        family = self._family()
        if self._clock() - self._read_at <= self._life:
            for labels, value in self._values.items():
                family.add_metric(labels, value)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._documentation, labels=self.labels, unit=self._unit)
