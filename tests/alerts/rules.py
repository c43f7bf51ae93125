"""The alert rules as Prometheus reads them: ``docker/prometheus/alerts.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [
        Rule(rule["alert"], rule["expr"], rule["labels"]["severity"], rule["annotations"])
        for group in groups
        for rule in group["rules"]
    ]
