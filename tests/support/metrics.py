"""The metrics of a worker process, and what a page of them says, read by Prometheus' own parser."""

from __future__ import annotations

import importlib
import pkgutil
import urllib.request
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from embedq_worker import metrics
from embedq_worker.metrics.sampled import Sampled


class Described(NamedTuple):
    """A metric of ours: its labels in their order, its type, and what it is."""

    labels: tuple[str, ...]
    type: str
    documentation: str


def all_metrics() -> dict[str, Described]:
    """Every metric of ours that any process can have, by its name as it is queried."""
    names = [each.name for each in pkgutil.iter_modules(metrics.__path__, "embedq_worker.metrics.")]
    found = [each for name in names for each in vars(importlib.import_module(name)).values()]
    return dict(_described(each) for each in found if isinstance(each, MetricWrapperBase | Sampled))


def _described(collector: MetricWrapperBase | Sampled) -> tuple[str, Described]:
    family = next(iter(collector.describe()))
    labels = collector.labels if isinstance(collector, Sampled) else collector._labelnames
    return queried(family), Described(tuple(labels), family.type, family.documentation)


def queried(metric: Metric) -> str:
    """The name in a query; of a histogram without ``_bucket``, ``_sum`` and ``_count``."""
    endings = {"counter": "_total", "info": "_info"}
    return metric.name + endings.get(metric.type, "")


class Page:
    """One answer of ``/metrics``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def value(self, name: str, /, **labels: str) -> float | None:
        """The sample of a name with exactly these labels; None where there is none."""
        return next((each.value for each in self.samples if (each.name, each.labels) == (name, labels)), None)

    def total(self, name: str, /, **labels: str) -> float:
        """The sum over the samples of a name that have these labels, whatever others they have."""
        return sum(
            each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items()
        )

    def labels(self) -> set[tuple[str, str]]:
        """All labels with their values."""
        return {pair for each in self.samples for pair in each.labels.items()}


def scrape(port: int, timeout: float = 5) -> Page:
    """The page of the worker process at a port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout) as answer:
        return Page(answer.read().decode())
