"""A refused key, a refused text and a database that is away, on real parts: a person is told of each."""

from __future__ import annotations

from pathlib import Path

from tests.alerts.failures import API_FAILURES, DEEDS
from tests.alerts.run import settle
from tests.alerts.scene import Scene
from tests.alerts.watch import Observer, Watch
from tests.chaos.options import Options
from tests.chaos.world import MakeWorld
from tests.support.programs import needs

_MODELS = ("refusedkey", "badtext", "shuffledorder")
_SOON = 15.0


def test_failures_are_told(make_world: MakeWorld, tmp_path: Path) -> None:
    """Each alert is at least pending within seconds, by the label of what it is about."""
    program = needs("prometheus")
    world = make_world(Options(seed=0, faults=0))
    failures = [failure for failure in API_FAILURES if failure.model in _MODELS]
    deed = next(deed for deed in DEEDS if deed.name == "postgres")
    watches = [Watch(each.model, each.metric, each.alert, each.labels) for each in failures]
    away = Watch(deed.name, deed.metric, deed.alert, deed.labels)
    with Scene(world, tmp_path, program, failures, workers=1) as scene:
        settle(scene)
        with Observer(scene.prometheus) as observer:
            observer.begin(watches)
            scene.spoil()
            observer.wait(watches, _is_known, _SOON)
            scene.mend()
            observer.begin([away])
            world.database_proxy.refuse()
            world.database_proxy.cut()
            observer.wait([away], _is_known, _SOON)
            world.database_proxy.accept()
    assert all(map(_is_known, [*watches, away])), [*watches, away]
    dead = next(watch for watch in watches if watch.alert == "EmbedqDeadLetters")
    assert dead.fired is not None
    assert "badtext" in dead.annotations["summary"]


def _is_known(watch: Watch) -> bool:
    """Whether the metric has moved and the alert, if there is one, is there."""
    return watch.moved is not None and (watch.alert is None or watch.pending is not None)
