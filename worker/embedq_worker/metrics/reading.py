"""A reading: a gauge of the whole fleet, whose values are read together and do not outlive their truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from prometheus_client import CollectorRegistry

from embedq_worker.metrics.registry import REGISTRY
from embedq_worker.metrics.sampled import Sampled, Values

LIFE = 15.0
"""Seconds after which values that were not read again are left out, unless a reading says otherwise."""


class Reading(Sampled):
    """Values by their labels. They are replaced as a whole: what is not among them any more is gone.

    ``life``: seconds after which they are left out; longer than from one reading to the next.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        unit: str = "",
        life: float = LIFE,
        registry: CollectorRegistry = REGISTRY,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(name, documentation, labels, unit=unit, registry=registry)
        self.life = life
        self._clock = clock
        self._values: Values = {}
        self._read_at = clock()
        self.follow(self._young)

    def replace(self, values: Values) -> None:
        """All the values of now."""
        self._values, self._read_at = values, self._clock()

    def _young(self) -> Values:
        return self._values if self._clock() - self._read_at <= self.life else {}
