"""The alert rules: Prometheus loads them, and each fires when it should and not when all is well."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.alerts.promtool import check_timelines, run
from tests.alerts.rules import ROOT, RULES, read_rules
from tests.alerts.timelines import TIMELINES
from tests.support.programs import needs


def test_prometheus_takes_the_files() -> None:
    """The rules and the configuration of the compose stack, by Prometheus' own check."""
    done = run(needs("promtool"), "check", "config", str(ROOT / "docker/prometheus/prometheus.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_fires_when_it_should_and_not_when_all_is_well(tmp_path: Path) -> None:
    """Over its timeline: too young, lasting, and over; and no other alert fires with it."""
    check_timelines(needs("promtool"), TIMELINES, tmp_path)


def test_a_timeline_on_which_nothing_fires_is_seen(tmp_path: Path) -> None:
    """The check above can fail."""
    late = dataclasses.replace(TIMELINES[0], fires=TIMELINES[0].well)
    with pytest.raises(AssertionError, match="FAILED"):
        check_timelines(needs("promtool"), [late], tmp_path)


def test_each_has_a_timeline() -> None:
    """None is left out above."""
    assert [rule.name for rule in read_rules()] == list(
        dict.fromkeys(timeline.alert for timeline in TIMELINES)
    )


def test_each_says_what_to_do() -> None:
    """A severity that people know, what happened, what to do, and where to read more."""
    for rule in read_rules():
        assert rule.severity in ("critical", "warning"), rule.name
        assert set(rule.annotations) == {"summary", "action", "runbook"}, rule.name
        assert rule.annotations["runbook"] == f"docs/alerts.md#{rule.name.lower()}"


def test_no_text_reaches_an_alert() -> None:
    """Annotations quote labels and numbers, which hold none."""
    assert "$externalLabels" not in RULES.read_text("utf-8")
