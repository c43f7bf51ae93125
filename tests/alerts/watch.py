"""Watches failures: when the metric moves, when the alert fires, and when it is gone again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.alerts.failures import WITHIN
from tests.alerts.prometheus import Alert, Prometheus
from tests.bench.sampler import Sampler

_LOOK_EVERY = 0.25
_GONE = 20.0
"""Seconds until a worker that was just replaced is asked again."""


@dataclass
class Watch:
    """What is seen of a failure. Times in seconds since it began; ``over`` since it was mended."""

    name: str
    metric: str
    """A query with one number, which grows."""
    alert: str | None
    labels: Mapping[str, str]
    within: float = WITHIN
    """Seconds to the alert at most."""
    moved: float | None = None
    pending: float | None = None
    fired: float | None = None
    over: float | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    began_at: float = 0.0
    mended_at: float | None = None
    before: float = 0.0

    @property
    def is_told(self) -> bool:
        """Whether the metric has moved and the alert, if there is one, fires."""
        return self.moved is not None and (self.alert is None or self.fired is not None)

    @property
    def is_over(self) -> bool:
        """Whether it was mended and the alert, if there is one, is gone."""
        return self.alert is None or self.over is not None

    def is_ours(self, alert: Alert) -> bool:
        """Whether an alert is this failure's."""
        return alert.name == self.alert and self.labels.items() <= alert.labels.items()

    def note(self, value: float | None, alerts: Sequence[Alert], now: float) -> None:
        """What is to be seen now; ``value`` is the metric's, None where it is not asked for any more."""
        since = now - self.began_at
        if self.moved is None and value is not None and value > self.before:
            self.moved = since
        ours = [alert for alert in alerts if self.is_ours(alert)]
        if self.mended_at is not None and self.over is None and not ours:
            self.over = now - self.mended_at
        for alert in ours:
            self.pending = since if self.pending is None else self.pending
            if alert.state == "firing" and self.fired is None:
                self.fired, self.annotations = since, alert.annotations


class Observer:
    """Looks at all watches, in a thread, for the length of a ``with`` block."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self._sampler = Sampler(_LOOK_EVERY, self._look)
        self.watches: list[Watch] = []

    def __enter__(self) -> Self:
        self._sampler.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sampler.__exit__(kind, error, trace)

    def begin(self, watches: Iterable[Watch]) -> None:
        """These failures begin now, once their alerts are not there: what was before may just have ended."""
        for watch in watches:
            deadline = time.monotonic() + _GONE
            while there := [alert for alert in self._prometheus.alerts() if watch.is_ours(alert)]:
                assert time.monotonic() < deadline, f"{watch.name}: the alert is there before it: {there}"
                time.sleep(_LOOK_EVERY)
            watch.before = self._prometheus.value(watch.metric) or 0.0
            watch.began_at = time.monotonic()
            self.watches.append(watch)

    @staticmethod
    def wait(watches: Iterable[Watch], done: Callable[[Watch], bool], seconds: float) -> None:
        """Wait until it holds for all of them, or so many seconds."""
        deadline, waited_for = time.monotonic() + seconds, list(watches)
        while not all(map(done, waited_for)) and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY)

    @staticmethod
    def mended(watches: Iterable[Watch]) -> None:
        """These failures are over now."""
        for watch in watches:
            watch.mended_at = time.monotonic()

    def _look(self) -> None:
        alerts, now = self._prometheus.alerts(), time.monotonic()
        for watch in list(self.watches):
            value = self._prometheus.value(watch.metric) if watch.moved is None else None
            watch.note(value, alerts, now)
