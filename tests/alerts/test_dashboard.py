"""The dashboard: Grafana can read it, and it shows only what workers tell."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
import yaml  # type: ignore[import-untyped] # PyYAML has no types

from tests.alerts.dashboard import PROVISIONING, filled, panels, queries, read_dashboard
from tests.alerts.queries import metrics_read
from tests.alerts.registered import registered
from tests.alerts.rules import read_recorded, read_rules

_KINDS = {"stat", "timeseries", "state-timeline", "table"}
"""Panels that Grafana brings itself."""


def _asked() -> list[tuple[str, str]]:
    """Every query of the rules and the dashboard, with its place."""
    variables = [
        (
            variable["name"],
            re.sub(r"label_values\((\w+), (\w+)\)", r"sum by (\2) (\1)", variable["definition"]),
        )
        for variable in read_dashboard()["templating"]["list"]
        if variable["type"] == "query"
    ]
    rules = [(rule.name, rule.query) for rule in read_rules()] + list(read_recorded().items())
    return rules + list(queries()) + variables


def test_every_metric_and_label_that_is_asked_for_exists() -> None:
    """A misspelt one would be an empty panel, or an alert that never fires."""
    known = registered()
    for place, query in _asked():
        for name, labels in metrics_read(query).items():
            assert name in known, f"{place}: no worker has {name}"
            assert labels <= known[name], f"{place}: {name} has no {labels - known[name]}"


def test_a_metric_that_does_not_exist_is_seen() -> None:
    """The check above can fail, by name and by label."""
    assert metrics_read("embedq_fleet_worker").keys() - registered().keys()
    assert not metrics_read("sum by (lane) (embedq_ready)")["embedq_ready"] <= registered()["embedq_ready"]


def test_every_panel_says_what_it_shows_and_in_what() -> None:
    """A sentence, a unit, and at least one query."""
    for panel in panels():
        assert panel["type"] in _KINDS, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


def test_panels_have_their_own_place_and_number() -> None:
    """None covers another, and none is wider than the page."""
    every = read_dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    boxes = [panel["gridPos"] for panel in every]
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    for one, other in combinations(boxes, 2):
        across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
        down = one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
        assert not (across and down), f"{one} covers {other}"


def test_it_asks_the_data_source_that_is_provisioned() -> None:
    """Through its variable, which has one choice in the compose stack: Prometheus, at its service's name."""
    dashboard = read_dashboard()
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
    variable = dashboard["templating"]["list"][0]
    assert (variable["type"], variable["name"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    provisioned = yaml.safe_load((PROVISIONING / "datasources/prometheus.yaml").read_text("utf-8"))
    assert [each["type"] for each in provisioned["datasources"]] == ["prometheus"]


def test_it_is_a_dashboard_of_a_file() -> None:
    """With a fixed uid, so that links last, and without an id, which each Grafana gives itself."""
    dashboard = read_dashboard()
    assert (dashboard["uid"], dashboard["id"]) == ("embedq", None)
    assert dashboard["schemaVersion"] == 39
    provider = yaml.safe_load((PROVISIONING / "dashboards/embedq.yaml").read_text("utf-8"))["providers"][0]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/var/lib/grafana/dashboards")


def test_variables_of_a_query_are_those_of_the_dashboard() -> None:
    """What Grafana does not know it would ask for as it is written."""
    with pytest.raises(KeyError):
        filled('a{collection=~"$colection"}')
    names = {variable["name"] for variable in read_dashboard()["templating"]["list"]}
    assert names == {"datasource", "collection", "model"}
