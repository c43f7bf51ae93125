"""The alert rules as Prometheus reads them: ``docker/prometheus/alerts.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML has no types

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docker/prometheus/alerts.yaml"


@dataclass(frozen=True)
class Rule:
    """One alert."""

    name: str
    query: str
    severity: str
    annotations: Mapping[str, str]


def read_rules() -> list[Rule]:
    """All of them, in the file's order."""
    return [
        Rule(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for rule in _written()
        if "alert" in rule
    ]


def read_recorded() -> dict[str, str]:
    """The queries of the series that Prometheus makes for them, by their names."""
    return {rule["record"]: rule["expr"] for rule in _written() if "record" in rule}


def _written() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]
