"""``promtool test rules``: the rules over timelines, in simulated time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.alerts.rules import RULES
from tests.alerts.timeline import INTERVAL, Timeline


def check_timelines(promtool: str, timelines: Iterable[Timeline], folder: Path) -> None:
    """Fail with what ``promtool`` says of timelines on which an alert does not fire as it should."""
    tests = folder / "timelines.json"  # JSON is YAML
    tests.write_text(
        json.dumps(
            {
                "rule_files": [str(RULES)],
                "evaluation_interval": f"{INTERVAL}s",
                "tests": [_test(timeline) for timeline in timelines],
            }
        )
    )
    done = run(promtool, "test", "rules", str(tests))
    assert done.returncode == 0, done.stdout + done.stderr


def run(promtool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=50, check=False)


def _test(timeline: Timeline) -> dict[str, Any]:
    at = [(timeline.well, ()), (timeline.fires, (timeline.alert, *timeline.also))]
    if timeline.over is not None:
        at.append((timeline.over, ()))
    asked = [_firing(seconds, names) for seconds, names in at]
    return {
        "name": timeline.alert,
        "interval": f"{INTERVAL}s",
        "input_series": [{"series": name, "values": values} for name, values in timeline.series.items()],
        "promql_expr_test": [*asked, _labelled(timeline)],
    }


def _firing(seconds: int, names: Iterable[str]) -> dict[str, Any]:
    """These fire then, and no other."""
    return {
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{seconds}s",
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names],
    }


def _labelled(timeline: Timeline) -> dict[str, Any]:
    """The alert says of what it is."""
    labels = {"alertname": timeline.alert, **timeline.labels}
    matchers = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return {
        "expr": f'group(ALERTS{{alertstate="firing",{matchers}}})',
        "eval_time": f"{timeline.fires}s",
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
