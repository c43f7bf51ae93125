"""One run: each failure is caused, watched, mended, and must be an alert in time and none afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tests.alerts import dashboard
from tests.alerts.deeds import BEFORE, DOING
from tests.alerts.failures import Deed
from tests.alerts.scene import Scene
from tests.alerts.watch import Observer, Watch

_SETTLE = 90.0
"""Seconds until all is well at the start."""
_OVER = 720.0
"""Seconds until the last alert is gone: rules look back for up to ten minutes."""
_SCRAPES = 30.0
"""Seconds for a few scrapes."""
_QUIET = {
    "Alerts over time",
    "Budgets",  # none is set
    "Cache",  # off by default
    "Dead letters by cause",
    "Drift",  # checked every few hours
    "Last change of slots",
}
"""Panels that show nothing while all is well."""


@dataclass
class Report:
    """What was seen, and what should have been."""

    watches: list[Watch]
    empty: list[str]
    """Panels for which Prometheus had no data."""
    left: list[str]
    """Alerts at the end, when all was mended."""

    @property
    def broken(self) -> list[str]:
        """What is wrong."""
        found = [f"{watch.name}: {wrong}" for watch in self.watches for wrong in _wrong(watch)]
        found += [f"panel {title!r} has no data" for title in self.empty]
        return found + [f"{name} is left" for name in self.left]

    def __str__(self) -> str:
        rows = [f"{'failure':<18}{'metric moved':>13}{'pending':>9}{'fires':>8}{'over':>8}  alert"]
        rows += [
            f"{watch.name:<18}{_time(watch.moved):>13}{_time(watch.pending):>9}{_time(watch.fired):>8}"
            f"{_time(watch.over):>8}  {watch.alert or '(none)'}"
            for watch in self.watches
        ]
        return "\n".join([*rows, *(f"BROKEN  {each}" for each in self.broken)])


def run(scene: Scene, say: Callable[[str], None]) -> Report:
    """Cause all that the scene is for. ``say`` is told how far it is."""
    settle(scene)
    empty = empty_panels(scene)
    with Observer(scene.prometheus) as observer:
        say(f"all is well; the API fails in {len(scene.failures)} ways")
        fail_api(scene, observer)
        for name, rows in groupby(scene.deeds, lambda deed: deed.name):
            say(f"deed: {name}")
            do(scene, observer, name, list(rows))
        say("waiting until no alert is left")
        observer.wait(observer.watches, lambda watch: watch.is_over, _OVER)
    _wait_for_none(scene)
    return Report(observer.watches, empty, [alert.name for alert in scene.prometheus.alerts()])


def settle(scene: Scene) -> None:
    """Wait until every collection has rows and nothing is wrong. Raises ``AssertionError``."""
    stored = 'count(sum by (collection) (embedq_items_total{outcome="stored"}) > 0)'
    deadline = time.monotonic() + _SETTLE
    while (scene.prometheus.value(stored) or 0) < len(scene.collections) or scene.prometheus.alerts():
        assert time.monotonic() < deadline, (
            f"all was not well within {_SETTLE:g} s: {scene.prometheus.alerts()}"
        )
        time.sleep(0.2)


def _wait_for_none(scene: Scene) -> None:
    """An outage is followed by an alert of its own, which looks back for minutes."""
    deadline = time.monotonic() + _OVER
    while scene.prometheus.alerts() and time.monotonic() < deadline:
        time.sleep(0.5)


def fail_api(scene: Scene, observer: Observer) -> None:
    """Every failure of the API, each with a model of its own, all at once."""
    watches = [Watch(each.model, each.metric, each.alert, each.labels) for each in scene.failures]
    observer.begin(watches)
    scene.spoil()
    observer.wait(watches, lambda watch: watch.is_told, max((each.within for each in watches), default=0))
    scene.mend()
    observer.mended(watches)


def do(scene: Scene, observer: Observer, name: str, rows: Sequence[Deed]) -> None:
    """One deed, until all of its alerts fire."""
    if (before := BEFORE.get(name)) is not None:
        before(scene)
    watches = [Watch(name, row.metric, row.alert, row.labels, row.within) for row in rows]
    observer.begin(watches)
    with DOING[name](scene):
        observer.wait(watches, lambda watch: watch.is_told, max(each.within for each in watches))
    observer.mended(watches)
    scene.crew.wait_until_ready()


def empty_panels(scene: Scene) -> list[str]:
    """The panels for which Prometheus has no data, though all is well and everything is in use.

    A rate wants two scrapes of a series: what is empty is asked again for a while.
    """
    deadline = time.monotonic() + _SCRAPES
    while (empty := _empty(scene)) and time.monotonic() < deadline:
        time.sleep(1)
    return empty


def _empty(scene: Scene) -> list[str]:
    return sorted(
        {title for title, query in dashboard.queries() if not scene.prometheus.rows(query)} - _QUIET
    )


def _wrong(watch: Watch) -> Iterator[str]:
    """What should have been otherwise."""
    if watch.moved is None or watch.moved > watch.within:
        yield f"the metric did not move: {watch.metric}"
    if watch.alert is None:
        return
    if watch.fired is None or watch.fired > watch.within:
        yield f"{watch.alert} did not fire within {watch.within:g} s"
    if watch.over is None:
        yield f"{watch.alert} was not over within {_OVER:g} s"
    if any("error" in text or "<no value>" in text for text in watch.annotations.values()):
        yield f"an annotation could not be filled: {dict(watch.annotations)}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f} s"
