"""The Grafana dashboard: its panels, and the queries that they ask of Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.alerts.rules import ROOT

DASHBOARD = ROOT / "docker/grafana/dashboards/embedq.json"
PROVISIONING = ROOT / "docker/grafana/provisioning"
_VALUES = {"collection": ".*", "model": ".*", "__rate_interval": "20s"}
"""What Grafana puts in the place of variables: all chosen, and four scrapes."""


def read_dashboard(path: Path = DASHBOARD) -> dict[str, Any]:
    """The parsed file."""
    parsed: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return parsed


def panels() -> list[dict[str, Any]]:
    """The panels that show something."""
    return [panel for panel in read_dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """The title of a panel and a query of it, as Prometheus is asked."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], filled(target["expr"])


def filled(query: str) -> str:
    """With values in the place of variables. Raises ``KeyError`` for one that Grafana would not know."""
    return re.sub(r"\$(\w+)", lambda found: _VALUES[found[1]], query)
